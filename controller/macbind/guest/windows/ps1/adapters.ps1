
# The adapters that are enabled and have IPv4. .NET answers at once; WMI takes seconds after a start.
function Get-Adapters {
    [Net.NetworkInformation.NetworkInterface]::GetAllNetworkInterfaces() |
        Where-Object { $_.Supports('IPv4') } | Sort-Object -Property { Get-Index $_ }
}

function Get-Index($Adapter) { $Adapter.GetIPProperties().GetIPv4Properties().Index }

# The plan for the first adapter that has one; nothing if there is none. $script:Problem says why a MAC of the pools is
# no machine's.
function Find-Plan {
    $adapters = @(Get-Adapters)
#:channels     $plan = Find-Said $script:Said $adapters
#:channels     if ($plan) { return $plan }
    foreach ($adapter in $adapters) {
        $plan = Find-Address "$($adapter.GetPhysicalAddress())"
        if ($plan.Status -eq 4) { $script:Problem = $plan.Why }
        if ($plan.Status -ne 0) { continue }
        $plan.Adapter = $adapter
        return $plan
    }
}

# Enables the adapters that are disabled, one after the other, until there is a plan. The MAC that Windows remembers may
# be the template's: it says where to begin, and is read again.
function Find-Asleep {
    $asleep = Get-NetAdapter -IncludeHidden | Where-Object { $_.HardwareInterface -and $_.Status -eq 'Disabled' } |
        Sort-Object -Property { (Find-Address $_.MacAddress).Status }
    foreach ($adapter in $asleep) {
        if ($DryRun) {
            Write-Host "mac2ip: would enable $($adapter.Name) and look at its MAC"
            $script:Unread = $true
            continue
        }
        $script:Woken = $adapter
        $adapter | Enable-NetAdapter -Confirm:$false
        $null = Wait-Network { Get-Adapters | Where-Object { $_.Id -eq $adapter.InterfaceGuid } } 10
        $plan = Find-Plan
        if ($plan) { return $plan }
        Undo-Enable
    }
}

function Undo-Enable {
    if ($script:Woken) { $script:Woken | Disable-NetAdapter -Confirm:$false }
    $script:Woken = $null
}

# Waits until the block returns something, and returns that; nothing if the time is over. Windows wakes it at each change
# of the network.
function Wait-Network([scriptblock]$Look, [int]$Seconds) {
    $end = [DateTime]::UtcNow.AddSeconds($Seconds)
    while (-not ($seen = & $Look)) {
        $left = [int][Math]::Ceiling(($end - [DateTime]::UtcNow).TotalSeconds)
        if ($left -le 0) { return }
        Wait-Event -SourceIdentifier macbind -Timeout $left | Remove-Event
    }
    return $seen
}
