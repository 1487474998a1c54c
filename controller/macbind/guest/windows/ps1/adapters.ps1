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

