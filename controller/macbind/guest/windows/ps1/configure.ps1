
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
    $way = @('gateway=none')
    if ($Plan.Gateway) { $way = "gateway=$($Plan.Gateway)", 'gwmetric=1' }
    Invoke-Netsh set address $name source=static "address=$($Plan.Address)" "mask=$($Plan.Mask)" @way
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

# Windows itself asks the network whether another machine has the address; this is the answer.
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
    if ($already) { $text += ', unchanged' }
    if ($DryRun -and -not $already) { $text = "would set $text" }
    if ($DryRun) { "mac2ip: $text"; return }
    if (-not $already) { Set-Plan $Plan }
    $state = Wait-Network { Get-State $Plan | Where-Object { $_ -in 'Preferred', 'Duplicate' } } 6
    if ($state -eq 'Duplicate') {
        Invoke-Netsh set address "name=$(Get-Index $Plan.Adapter)" source=dhcp
        Undo-Enable
        Stop-With 5 "Another machine has $($Plan.Address); it was given up."
    }
    $script:Woken = $null
    "mac2ip: $text"
    if (-not $state) { Write-Warning 'Windows has not found out yet whether another machine has the address.' }
#:channels     Set-Name $Plan
}

function Invoke-Configure {
#:channels     $script:Said = @(Read-Channels)
    $plan = Find-Plan
    if (-not $plan) { $plan = Find-Asleep }
    if (-not $plan -and $Wait -and -not $DryRun) { $plan = Wait-Network { Find-Plan } 60 }
#:channels     foreach ($one in $script:Said) {
#:channels         if ($plan.Hex) { continue }
#:channels         Write-Warning "What $($one.Source) says is not used: '$($one.Hex)' is no adapter of this machine."
#:channels     }
    if ($plan) { Invoke-Plan $plan; return }
    if ($script:Unread) { return }
    if ($script:Problem) { Stop-With 4 $script:Problem }
    Stop-With 3 'No adapter of this machine has a MAC of the pools; these begin with @PREFIXES@.'
}
