# -- what the host says ---------------------------------------------------------------------------------------------

# Lines key=value. SMBIOS carries them as OEM strings (type 11), which this class shows.
function Read-Smbios {
    foreach ($line in (Get-CimInstance -ClassName Win32_ComputerSystem).OEMStringArray) {
        if ($line -like 'macbind:*') { $line.Substring(8) }
    }
}

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
            # A key that is not there is an error of WMI, and the usual case.
            try { "$key=" + $session.GetValue("vm-data/macbind/$key").value } catch { continue }
        }
        $null = $session.EndSession()
        return
    }
}

function Test-Address([string]$Text) {
    $parsed = $null
    return $Text -match '^(\d{1,3}\.){3}\d{1,3}$' -and [Net.IPAddress]::TryParse($Text, [ref]$parsed)
}

# What each channel says, as a hash table with a MAC in it, if it is well formed.
function Read-Channels {
    if ($MacOnly) { return }
    foreach ($channel in 'Smbios', 'Xenstore') {
        $said = @{}
        try {
            foreach ($line in & "Read-$channel") {
                $key, $value = $line -split '=', 2
                $said[$key] = "$value".Trim()
            }
        } catch {
            Write-Warning "$channel cannot be read: $($_.Exception.Message)"
            continue
        }
        if ($said.Count -eq 0) { continue }
        $address, $length = "$($said.address)" -split '/', 2
        $dns = @("$($said.dns)" -split ' ' | Where-Object { $_ })
        $bad = @(@($address) + $dns + @($said.gateway | Where-Object { $_ }) | Where-Object { -not (Test-Address $_) })
        $number = ConvertFrom-Mac "$($said.mac)"
        if ($number -lt 0 -or $bad.Count -or $length -notmatch '^([1-9]|[12]\d|3[0-2])$') {
            Write-Warning "What $channel says is not used: '$($said.mac)', '$($said.address)' or another value is none."
            continue
        }
        @{
            Number = $number; Mac = $said.mac; Source = $channel; Name = $said.hostname
            Address = $address; Length = [int]$length; Gateway = "$($said.gateway)"; Dns = $dns; Search = $said.search
        }
    }
}

