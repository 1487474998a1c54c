# mac2ip: gives this machine the address its MAC stands for, without a DHCP server.
# Made by "macbind guest-script windows" (macbind @VERSION@) for @POOLS@.
# Do not edit it: change macbind's configuration and make it anew. It is for Windows 8, Server 2012 and up.
#
#   mac2ip.ps1                  give this machine its address
#   mac2ip.ps1 -DryRun          say what would be done, and do nothing
#   mac2ip.ps1 -HostName        also take the name the host gives, if it gives one; it counts from the next start on
#   mac2ip.ps1 -MacOnly         do not ask the host, look at the MAC only
#   mac2ip.ps1 -Decode MAC...   print ADDRESS/LENGTH GATEWAY for each MAC
#   mac2ip.ps1 -Register        run at every start, as SYSTEM, before anybody logs on; -Unregister ends that
#
# Exit code: 0 done, or it was so already
#            1 a command failed; an adapter that was enabled for it is disabled again
#            2 the command line is not understood
#            3 no adapter has a MAC of the pools
#            4 the MAC stands for an address that no machine may have
#            5 somebody else has the address; it was given up
#            6 it must be run as an administrator
# With 2, 3, 4 and 6 nothing has been touched.
param(
    [switch]$DryRun,
    [switch]$HostName,
    [switch]$MacOnly,
    [switch]$Decode,
    [switch]$Register,
    [switch]$Unregister,
    [Parameter(ValueFromRemainingArguments = $true)][string[]]$Mac = @()
)
$ErrorActionPreference = 'Stop'
$Task = 'macbind mac2ip'
$Woken = $null

# Numbers are addresses; a MAC minus Offset is one, if it is from First to Last. Ranges and Subnet are pairs, from and
# to. Rule is the gateway's octets, -1 for the machine's own; it is empty if there is no gateway.
$Pools = @(
@TABLE@
)

# -- from MAC to address --------------------------------------------------------------------------------------------

# The 48 bits of a MAC in any common spelling; -1 if it is none.
function ConvertFrom-Mac([string]$Text) {
    $hex = $Text.Trim()
    if ($hex -match '^[0-9a-f]{1,2}([:-])[0-9a-f]{1,2}(\1[0-9a-f]{1,2}){4}$') {
        $hex = ($hex.Split(':-'.ToCharArray()) | ForEach-Object { $_.PadLeft(2, '0') }) -join ''
    } elseif ($hex -match '^[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}$') {
        $hex = $hex.Replace('.', '')
    } elseif ($hex -notmatch '^[0-9a-f]{12}$') {
        return [long]-1
    }
    return [Convert]::ToInt64($hex, 16)
}

# What the machine with a MAC must know. Status is 0, or the exit code that fits. The first round is what the pools hand
# out; the second any address of their subnets that is not forbidden, which an admin may have reserved by hand.
function Find-Address([long]$Number) {
    $status = 3
    foreach ($round in 1, 2) {
        foreach ($pool in $Pools) {
            $address = $Number - $pool.Offset
            if ($address -lt $pool.First -or $address -gt $pool.Last) { continue }
            $status = 4
            $pairs = $pool.Ranges
            if ($round -eq 2) { $pairs = $pool.Subnet }
            $good = $false
            for ($i = 0; $i -lt $pairs.Count; $i += 2) {
                if ($address -ge $pairs[$i] -and $address -le $pairs[$i + 1]) { $good = $true }
            }
            foreach ($one in $pool.Forbidden) {
                if ($address -eq $one -and $round -eq 2) { $good = $false }
            }
            $gateway = [long]-1
            if ($pool.Rule.Count -eq 4) {
                $gateway = [long]0
                for ($i = 0; $i -lt 4; $i += 1) {
                    $octet = $pool.Rule[$i]
                    if ($octet -lt 0) { $octet = ($address -shr (24 - 8 * $i)) -band 255 }
                    $gateway = $gateway * 256 + $octet
                }
            }
            if ($good -and $address -ne $gateway) {
                return @{ Status = 0; Pool = $pool; Address = $address; Gateway = $gateway }
            }
        }
    }
    return @{ Status = $status }
}

# 10.1.1.3, or - for what is none.
function Format-Address([long]$Address) {
    if ($Address -lt 0) { return '-' }
    $octets = foreach ($bits in 24, 16, 8, 0) { ($Address -shr $bits) -band 255 }
    return $octets -join '.'
}

function Stop-With([int]$Code, [string]$Why) {
    [Console]::Error.WriteLine("mac2ip: $Why")
    exit $Code
}

function Write-Decoded {
    $worst = 0
    foreach ($text in ($Mac | ForEach-Object { $_ -split '[,\s]+' } | Where-Object { $_ })) {
        $found = @{ Status = 3 }
        $number = ConvertFrom-Mac $text
        if ($number -ge 0) { $found = Find-Address $number }
        if ($found.Status -eq 0) {
            '{0}/{1} {2}' -f (Format-Address $found.Address), $found.Pool.Length, (Format-Address $found.Gateway)
            continue
        }
        if ($worst -eq 0) { $worst = $found.Status }
        [Console]::Error.WriteLine("mac2ip: '$text' " + $Sentences[$found.Status])
        '-'
    }
    exit $worst
}
$Sentences = @{
    3 = 'is no MAC of the pools; these begin with @PREFIXES@.'
    4 = 'stands for an address that no machine may have, or that is outside of the subnet.'
}

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

# The plan for an adapter of this machine, from the first channel that is about one; nothing if none is. An adapter that
# shows no MAC while it is disabled may be the one that is meant, so then it is no fault if none of the others is.
function Read-Identity($Adapters) {
    foreach ($channel in 'Smbios', 'Xenstore') {
        $said = @{}
        foreach ($line in & "Read-$channel") {
            $key, $value = $line -split '=', 2
            $said[$key] = "$value".Trim()
        }
        if ($said.Count -eq 0) { continue }
        $number = ConvertFrom-Mac "$($said.mac)"
        $adapter = $Adapters | Where-Object { $number -ge 0 -and (Get-Macs $_) -contains $number } | Select-Object -First 1
        $address, $length = "$($said.address)" -split '/', 2
        $dns = @("$($said.dns)" -split ' ' | Where-Object { $_ })
        $bad = @(@($address) + $dns + @($said.gateway | Where-Object { $_ }) | Where-Object { -not (Test-Address $_) })
        if (-not $adapter -and @($Adapters | Where-Object { -not (Get-Macs $_) }).Count) { continue }
        if (-not $adapter) {
            Write-Warning "What $channel says is not used: '$($said.mac)' is no adapter of this machine."
        } elseif ($bad.Count -or $length -notmatch '^([1-9]|[12]\d|3[0-2])$') {
            Write-Warning "What $channel says is not used: '$($said.address)' or another address of it is none."
        } else {
            return New-Plan $adapter $address ([int]$length) $said.gateway $dns $said.search $said.hostname $channel
        }
    }
}

function New-Plan($Adapter, $Address, $Length, $Gateway, $Dns, $Search, $Name, $Source) {
    if ($Gateway -eq '-') { $Gateway = $null }
    return @{
        Adapter = $Adapter; Address = $Address; Length = $Length; Gateway = $Gateway
        Dns = @($Dns); Search = $Search; Name = $Name; Source = $Source
    }
}

# -- which adapter --------------------------------------------------------------------------------------------------

# An adapter that is disabled keeps its place, and so may be shown with the MAC it had when it was last enabled: the
# template's, if it is not this one's. So a plan made for it is made again when it is enabled.
function Get-Adapters {
    $present = @(Get-NetAdapter -IncludeHidden | Where-Object { $_.HardwareInterface -and $_.Status -ne 'Not Present' })
    $present | Where-Object { $_.Status -ne 'Disabled' } | Sort-Object -Property ifIndex
    $present | Where-Object { $_.Status -eq 'Disabled' } | Sort-Object -Property ifIndex
}

# The MACs of an adapter, as numbers, the surest first. What an admin wrote into the registry counts at its next start.
function Get-Macs($Adapter) {
    $texts = @($Adapter.MacAddress)
    if ($Adapter.Status -eq 'Disabled') {
        $class = 'HKLM:\SYSTEM\CurrentControlSet\Control\Class\{4D36E972-E325-11CE-BFC1-08002BE10318}\0*'
        $written = Get-ItemProperty -Path $class -ErrorAction SilentlyContinue |
            Where-Object { $_.NetCfgInstanceId -eq $Adapter.InterfaceGuid } |
            ForEach-Object { $_.NetworkAddress }
        $texts = @($written) + $texts + @($Adapter.PermanentAddress)
    }
    $texts | Where-Object { $_ } | ForEach-Object { ConvertFrom-Mac $_ } | Where-Object { $_ -gt 0 } |
        Select-Object -Unique
}

# The plan for the first adapter whose MAC is of a pool; $script:Problem is 4 if one is, but for no machine.
function Find-Plan($Adapters) {
    foreach ($adapter in $Adapters) {
        foreach ($number in @(Get-Macs $adapter)) {
            $found = Find-Address $number
            if ($found.Status -eq 4) { $script:Problem = 4 }
            if ($found.Status -ne 0) { continue }
            $pool = $found.Pool
            $address, $gateway = (Format-Address $found.Address), (Format-Address $found.Gateway)
            return New-Plan $adapter $address $pool.Length $gateway $pool.Dns $pool.Search $null "pool $($pool.Name)"
        }
    }
}

# Waits for the network to change until the condition holds; whether it does at the end. Nothing is polled: Windows
# wakes us at each change.
function Wait-Network([scriptblock]$Condition, [int]$Seconds) {
    $end = [DateTime]::UtcNow.AddSeconds($Seconds)
    while (-not (& $Condition)) {
        $left = [int][Math]::Ceiling(($end - [DateTime]::UtcNow).TotalSeconds)
        if ($left -le 0) { return $false }
        Wait-Event -SourceIdentifier macbind -Timeout $left | Remove-Event
    }
    return $true
}

# Enables an adapter as it is, and returns it with its MAC.
function Enable-Adapter($Adapter) {
    $script:Woken = $Adapter
    Enable-NetAdapter -Name $Adapter.Name -IncludeHidden -Confirm:$false
    $null = Wait-Network { (Get-Fresh $Adapter).Status -ne 'Disabled' -and (Get-Fresh $Adapter).MacAddress } 10
    return Get-Fresh $Adapter
}

function Get-Fresh($Adapter) { Get-NetAdapter -IncludeHidden -Name $Adapter.Name }

function Undo-Enable {
    if ($script:Woken) { Disable-NetAdapter -Name $script:Woken.Name -IncludeHidden -Confirm:$false }
    $script:Woken = $null
}

# -- what is done ---------------------------------------------------------------------------------------------------

# Whether the adapter has all of the plan already, and not from DHCP.
function Test-Plan($Plan) {
    $index = $Plan.Adapter.ifIndex
    $have = @(Get-NetIPAddress -InterfaceIndex $index -AddressFamily IPv4 -ErrorAction SilentlyContinue)
    $ways = @(Get-NetRoute -InterfaceIndex $index -DestinationPrefix 0.0.0.0/0 -ErrorAction SilentlyContinue)
    $dns = @((Get-DnsClientServerAddress -InterfaceIndex $index -AddressFamily IPv4).ServerAddresses)
    $suffix = (Get-DnsClient -InterfaceIndex $index).ConnectionSpecificSuffix
    return $have.Count -eq 1 -and $have[0].IPAddress -eq $Plan.Address -and
        $have[0].PrefixLength -eq $Plan.Length -and $have[0].PrefixOrigin -eq 'Manual' -and
        "$($ways.NextHop)" -eq "$($Plan.Gateway)" -and
        ($Plan.Dns.Count -eq 0 -or "$dns" -eq "$($Plan.Dns)") -and "$suffix" -eq "$($Plan.Search)"
}

# New-NetIPAddress refuses while DHCP is on, and an address or route that is there already. So what is there goes first.
function Set-Plan($Plan) {
    $index = $Plan.Adapter.ifIndex
    Set-NetIPInterface -InterfaceIndex $index -AddressFamily IPv4 -Dhcp Disabled
    Get-NetIPAddress -InterfaceIndex $index -AddressFamily IPv4 -ErrorAction SilentlyContinue |
        Remove-NetIPAddress -Confirm:$false
    Get-NetRoute -InterfaceIndex $index -DestinationPrefix 0.0.0.0/0 -ErrorAction SilentlyContinue |
        Remove-NetRoute -Confirm:$false
    $address = @{ InterfaceIndex = $index; IPAddress = $Plan.Address; PrefixLength = $Plan.Length }
    if ($Plan.Gateway) { $address.DefaultGateway = $Plan.Gateway }
    $null = New-NetIPAddress @address
    if ($Plan.Dns.Count) { Set-DnsClientServerAddress -InterfaceIndex $index -ServerAddresses $Plan.Dns }
    Set-DnsClient -InterfaceIndex $index -ConnectionSpecificSuffix "$($Plan.Search)"
}

# Windows itself asks the network whether somebody has the address; this is its answer.
function Get-State($Plan) {
    $one = Get-NetIPAddress -InterfaceIndex $Plan.Adapter.ifIndex -IPAddress $Plan.Address -ErrorAction SilentlyContinue
    return "$($one.AddressState)"
}

function Invoke-Plan($Plan) {
    $text = '{0}/{1} gateway {2}' -f $Plan.Address, $Plan.Length, $(if ($Plan.Gateway) { $Plan.Gateway } else { 'none' })
    $text = "$($Plan.Adapter.Name) $text ($($Plan.Source))"
    if ($DryRun) { "mac2ip: would set $text"; return }
    if (Test-Plan $Plan) { "mac2ip: $text was so already"; Set-Name $Plan; return }
    Set-Plan $Plan
    $null = Wait-Network { (Get-State $Plan) -ne 'Tentative' } 6
    $state = Get-State $Plan
    if ($state -eq 'Duplicate') {
        Remove-NetIPAddress -InterfaceIndex $Plan.Adapter.ifIndex -IPAddress $Plan.Address -Confirm:$false
        Undo-Enable
        Stop-With 5 "Somebody else has $($Plan.Address); it was given up."
    }
    $script:Woken = $null
    "mac2ip: $text"
    if ($state -ne 'Preferred') { Write-Warning "Windows has not yet seen whether somebody else has the address." }
    Set-Name $Plan
}

function Set-Name($Plan) {
    if (-not $HostName) { return }
    if (-not $Plan.Name) { Write-Warning 'The host gives no name.'; return }
    if ($Plan.Name -ne $env:COMPUTERNAME) { Rename-Computer -NewName $Plan.Name -Force }
}

function Invoke-Configure {
    $adapters = @(Get-Adapters)
    $plan = $null
    if (-not $MacOnly) { $plan = Read-Identity $adapters }
    if (-not $plan) { $plan = Find-Plan $adapters }
    $asleep = @($adapters | Where-Object { $_.Status -eq 'Disabled' })
    if ($plan) {
        if ($plan.Adapter.Status -ne 'Disabled') { Invoke-Plan $plan; return }
        $asleep = @($plan.Adapter) + @($asleep | Where-Object { $_.Name -ne $plan.Adapter.Name })
    }
    foreach ($adapter in $asleep) {
        if ($DryRun) { "mac2ip: would enable $($adapter.Name) and look at its MAC"; continue }
        $awake = Enable-Adapter $adapter
        $plan = $null
        if (-not $MacOnly) { $plan = Read-Identity @($awake) }
        if (-not $plan) { $plan = Find-Plan @($awake) }
        if ($plan) { Invoke-Plan $plan; return }
        Undo-Enable
    }
    if ($DryRun -and $asleep.Count) { return }
    if ($script:Problem -eq 4) { Stop-With 4 "A MAC of this machine $($Sentences[4])" }
    Stop-With 3 'No adapter of this machine has a MAC of the pools; these begin with @PREFIXES@.'
}

# -- at every start -------------------------------------------------------------------------------------------------

function Register-Me {
    $command = "-NoProfile -NonInteractive -ExecutionPolicy Bypass -File `"$PSCommandPath`""
    $action = New-ScheduledTaskAction -Execute powershell.exe -Argument $command
    $trigger = New-ScheduledTaskTrigger -AtStartup
    $who = New-ScheduledTaskPrincipal -UserId SYSTEM -LogonType ServiceAccount -RunLevel Highest
    $null = Register-ScheduledTask -TaskName $Task -Action $action -Trigger $trigger -Principal $who -Force
    "mac2ip: runs at every start as the task '$Task'"
}

function Unregister-Me {
    Get-ScheduledTask -TaskName $Task -ErrorAction SilentlyContinue | Unregister-ScheduledTask -Confirm:$false
}

# -- what was asked for ---------------------------------------------------------------------------------------------

if ($Decode) {
    if ($Mac.Count -eq 0) { Stop-With 2 '-Decode needs a MAC.' }
    Write-Decoded
}
if ($Mac.Count) { Stop-With 2 "'$($Mac[0])' is not understood; the beginning of this file says what is." }
$me = New-Object Security.Principal.WindowsPrincipal ([Security.Principal.WindowsIdentity]::GetCurrent())
if (-not $DryRun -and -not $me.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)) {
    Stop-With 6 'Run it as an administrator.'
}
try {
    if ($Register) {
        if ($DryRun) { "mac2ip: would make the task '$Task'" } else { Register-Me }
    } elseif ($Unregister) {
        if ($DryRun) { "mac2ip: would remove the task '$Task'" } else { Unregister-Me }
    } else {
        $network = [Net.NetworkInformation.NetworkChange]
        Register-ObjectEvent -InputObject $network -EventName NetworkAddressChanged -SourceIdentifier macbind
        try { Invoke-Configure } finally { Unregister-Event -SourceIdentifier macbind }
    }
} catch {
    $why = $_.Exception.Message
    Undo-Enable
    Stop-With 1 $why
}
exit 0
