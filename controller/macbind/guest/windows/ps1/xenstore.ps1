
# The Windows drivers of Xen show Xenstore as WMI objects, one class name per maker.
function Read-Xenstore {
    if (-not (Get-Command -Name Get-WmiObject -ErrorAction SilentlyContinue)) { return }
    foreach ($maker in 'XenProject', 'Citrix') {
        $base = Get-WmiObject -Namespace root\wmi -Class "${maker}XenStoreBase" -ErrorAction SilentlyContinue
        if (-not $base) { continue }
        $id = $base.AddSession('macbind').SessionId
        $query = "select * from ${maker}XenStoreSession where SessionId=$id"
        $session = Get-WmiObject -Namespace root\wmi -Query $query
        foreach ($key in 'mac', 'address', 'gateway', 'dns', 'search', 'hostname') {
            # A missing key is an error of WMI, and the usual case.
            try { "$key=" + $session.GetValue("vm-data/macbind/$key").value } catch { continue }
        }
        $null = $session.EndSession()
        return
    }
}
