# mac2ip: gives this machine the address its MAC stands for, without a DHCP server.
# Made by "macbind guest-script windows" (macbind @VERSION@) for @POOLS@.
# Do not edit it: change macbind's configuration and make it anew. It is for Windows 8, Server 2012 and up.
#
#   mac2ip.ps1                  give this machine its address
#   mac2ip.ps1 -DryRun          say what would be done, and do nothing
#   mac2ip.ps1 -HostName        also take the name the host gives, if it gives one; it counts from the next start on
#   mac2ip.ps1 -MacOnly         do not ask the host, look at the MAC only
#   mac2ip.ps1 -Wait            wait up to a minute for the adapter, which may be new to Windows
#   mac2ip.ps1 -Decode MAC...   print ADDRESS/LENGTH GATEWAY for each MAC
#   mac2ip.ps1 -Register        run with -Wait at every start, as SYSTEM, before anybody logs on, and with -HostName or
#                               -MacOnly if they are given now; -Unregister ends that
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
    [switch]$Wait,
    [switch]$Decode,
    [switch]$Register,
    [switch]$Unregister,
    [Parameter(ValueFromRemainingArguments = $true)][string[]]$Mac = @()
)
$ErrorActionPreference = 'Stop'
$Task = 'macbind mac2ip'
$Woken = $null

# Numbers are addresses; a MAC minus Offset is one, if it is from First to Last. Ranges and Subnet are pairs, from and
# to. Others are pairs as well, a mask and the bits beneath it that gateways of other pools have. Rule is the gateway's
# octets, -1 for the machine's own; it is empty if there is no gateway.
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
            for ($i = 0; $i -lt $pool.Others.Count; $i += 2) {
                if (($address -band $pool.Others[$i]) -eq $pool.Others[$i + 1]) { $good = $false }
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

# The mask of a prefix length, as a number.
function Get-Mask([long]$Length) { return 4294967296 - ([long]1 -shl (32 - $Length)) }

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

# -- which adapter --------------------------------------------------------------------------------------------------

# The adapters that are enabled and have IPv4. Asking .NET takes no time; what asks WMI takes seconds after a start.
function Get-Adapters {
    [Net.NetworkInformation.NetworkInterface]::GetAllNetworkInterfaces() |
        Where-Object { $_.Supports('IPv4') } | Sort-Object -Property { Get-Index $_ }
}

function Get-Index($Adapter) { $Adapter.GetIPProperties().GetIPv4Properties().Index }

# What is to be done: for the first adapter that the host speaks of, or else whose MAC is of a pool; nothing if there is
# none. $script:Problem is 4 if a MAC is of a pool, but for no machine.
function Find-Plan($Said) {
    $adapters = @(Get-Adapters)
    foreach ($plan in $Said) {
        foreach ($adapter in $adapters) {
            if ((ConvertFrom-Mac "$($adapter.GetPhysicalAddress())") -ne $plan.Number) { continue }
            $plan.Adapter = $adapter
            return $plan
        }
    }
    foreach ($adapter in $adapters) {
        $found = Find-Address (ConvertFrom-Mac "$($adapter.GetPhysicalAddress())")
        if ($found.Status -eq 4) { $script:Problem = 4 }
        if ($found.Status -ne 0) { continue }
        $pool = $found.Pool
        $plan = @{
            Adapter = $adapter; Address = Format-Address $found.Address; Length = $pool.Length
            Gateway = ''; Dns = $pool.Dns; Search = $pool.Search; Source = "pool $($pool.Name)"
        }
        if ($found.Gateway -ge 0) { $plan.Gateway = Format-Address $found.Gateway }
        return $plan
    }
}

# Enables the adapters that are disabled, one after the other, until there is something to be done. What Windows
# remembers as MAC of one may be the template's: it says where to begin, and is read again.
function Find-Asleep($Said) {
    $asleep = Get-NetAdapter -IncludeHidden | Where-Object { $_.HardwareInterface -and $_.Status -eq 'Disabled' } |
        Sort-Object -Property { (Find-Address (ConvertFrom-Mac $_.MacAddress)).Status }
    foreach ($adapter in $asleep) {
        if ($DryRun) {
            Write-Host "mac2ip: would enable $($adapter.Name) and look at its MAC"
            $script:Unread = $true
            continue
        }
        $script:Woken = $adapter
        $adapter | Enable-NetAdapter -Confirm:$false
        $null = Wait-Network { Get-Adapters | Where-Object { $_.Id -eq $adapter.InterfaceGuid } } 10
        $plan = Find-Plan $Said
        if ($plan) { return $plan }
        Undo-Enable
    }
}

function Undo-Enable {
    if ($script:Woken) { $script:Woken | Disable-NetAdapter -Confirm:$false }
    $script:Woken = $null
}

# Waits for the network to change until there is what is looked for, and returns it; nothing if the time is over.
# Nothing is polled: Windows wakes us at each change.
function Wait-Network([scriptblock]$Look, [int]$Seconds) {
    $end = [DateTime]::UtcNow.AddSeconds($Seconds)
    while (-not ($seen = & $Look)) {
        $left = [int][Math]::Ceiling(($end - [DateTime]::UtcNow).TotalSeconds)
        if ($left -le 0) { return }
        Wait-Event -SourceIdentifier macbind -Timeout $left | Remove-Event
    }
    return $seen
}

# -- what is done ---------------------------------------------------------------------------------------------------

# Whether the adapter has all of the plan already, and not from DHCP.
function Test-Plan($Plan) {
    $has = $Plan.Adapter.GetIPProperties()
    $have = @($has.UnicastAddresses | Where-Object { $_.Address.AddressFamily -eq 'InterNetwork' })
    $ways = @($has.GatewayAddresses | Where-Object { $_.Address.AddressFamily -eq 'InterNetwork' })
    $dns = @($has.DnsAddresses | Where-Object { $_.AddressFamily -eq 'InterNetwork' })
    return $have.Count -eq 1 -and "$($have[0].Address)" -eq $Plan.Address -and
        $have[0].PrefixLength -eq $Plan.Length -and $have[0].PrefixOrigin -eq 'Manual' -and
        "$($ways | ForEach-Object { $_.Address })" -eq $Plan.Gateway -and
        ($Plan.Dns.Count -eq 0 -or "$dns" -eq "$($Plan.Dns)") -and
        (-not $Plan.Search -or $has.DnsSuffix -eq $Plan.Search)
}

# netsh takes an adapter by its number, so no name needs quotes. One call ends DHCP and replaces address and gateway.
function Set-Plan($Plan) {
    $name = "name=$(Get-Index $Plan.Adapter)"
    $mask = Format-Address (Get-Mask $Plan.Length)
    $way = @('gateway=none')
    if ($Plan.Gateway) { $way = "gateway=$($Plan.Gateway)", 'gwmetric=1' }
    Invoke-Netsh set address $name source=static "address=$($Plan.Address)" "mask=$mask" @way
    if ($Plan.Search) {
        $key = 'HKLM:\SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\Interfaces\' + $Plan.Adapter.Id
        Set-ItemProperty -LiteralPath $key -Name Domain -Value $Plan.Search
    }
    for ($i = 0; $i -lt $Plan.Dns.Count; $i += 1) {
        $server = "address=$($Plan.Dns[$i])"
        if ($i -eq 0) { Invoke-Netsh set dnsservers $name source=static $server register=primary validate=no }
        if ($i -gt 0) { Invoke-Netsh add dnsservers $name $server "index=$($i + 1)" validate=no }
    }
}

function Invoke-Netsh {
    $said = netsh.exe interface ipv4 @args
    if ($LASTEXITCODE -ne 0) { throw ('netsh could not {0}: {1}' -f "$args", "$said".Trim()) }
}

# Windows itself asks the network whether somebody has the address; this is its answer.
function Get-State($Plan) {
    $one = Get-Adapters | Where-Object { $_.Id -eq $Plan.Adapter.Id } |
        ForEach-Object { $_.GetIPProperties().UnicastAddresses } | Where-Object { "$($_.Address)" -eq $Plan.Address }
    return "$($one.DuplicateAddressDetectionState)"
}

function Invoke-Plan($Plan) {
    $way = 'none'
    if ($Plan.Gateway) { $way = $Plan.Gateway }
    $text = '{0} {1}/{2} gateway {3} ({4})' -f $Plan.Adapter.Name, $Plan.Address, $Plan.Length, $way, $Plan.Source
    $already = Test-Plan $Plan
    if ($already) { $text += ' was so already' }
    if ($DryRun -and -not $already) { $text = "would set $text" }
    if ($DryRun) { "mac2ip: $text"; return }
    if (-not $already) { Set-Plan $Plan }
    $state = Wait-Network { Get-State $Plan | Where-Object { $_ -in 'Preferred', 'Duplicate' } } 6
    if ($state -eq 'Duplicate') {
        Invoke-Netsh set address "name=$(Get-Index $Plan.Adapter)" source=dhcp
        Undo-Enable
        Stop-With 5 "Somebody else has $($Plan.Address); it was given up."
    }
    $script:Woken = $null
    "mac2ip: $text"
    if (-not $state) { Write-Warning 'Windows has not yet seen whether somebody else has the address.' }
    Set-Name $Plan
}

function Set-Name($Plan) {
    if (-not $HostName) { return }
    if (-not $Plan.Name) { Write-Warning 'The host gives no name.'; return }
    if ($Plan.Name -ne [Net.Dns]::GetHostName()) { Rename-Computer -NewName $Plan.Name -Force }
}

function Invoke-Configure {
    $said = @(Read-Channels)
    $plan = Find-Plan $said
    if (-not $plan) { $plan = Find-Asleep $said }
    if (-not $plan -and $Wait -and -not $DryRun) { $plan = Wait-Network { Find-Plan $said } 60 }
    foreach ($one in $said) {
        if ($plan.Number) { continue }
        Write-Warning "What $($one.Source) says is not used: '$($one.Mac)' is no adapter of this machine."
    }
    if ($plan) { Invoke-Plan $plan; return }
    if ($script:Unread) { return }
    if ($script:Problem -eq 4) { Stop-With 4 "A MAC of this machine $($Sentences[4])" }
    Stop-With 3 'No adapter of this machine has a MAC of the pools; these begin with @PREFIXES@.'
}

# -- at every start -------------------------------------------------------------------------------------------------

# A task would otherwise wait for mains power, and be one of the last to get the processor.
function Register-Me {
    $command = "-NoProfile -NonInteractive -ExecutionPolicy Bypass -File `"$PSCommandPath`" -Wait"
    if ($HostName) { $command += ' -HostName' }
    if ($MacOnly) { $command += ' -MacOnly' }
    $how = @{
        Action = New-ScheduledTaskAction -Execute powershell.exe -Argument $command
        Trigger = New-ScheduledTaskTrigger -AtStartup
        Principal = New-ScheduledTaskPrincipal -UserId SYSTEM -LogonType ServiceAccount -RunLevel Highest
        Settings = New-ScheduledTaskSettingsSet -AllowStartIfOnBatteries -DontStopIfGoingOnBatteries -Priority 4
    }
    $null = Register-ScheduledTask -TaskName $Task @how -Force
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
