
function Test-Address([string]$Text) {
    $parsed = $null
    return $Text -match '^(\d{1,3}\.){3}\d{1,3}$' -and [Net.IPAddress]::TryParse($Text, [ref]$parsed)
}

# A plan for each channel that has well-formed lines key=value, with the digits of its MAC in Hex.
function Read-Channels {
    foreach ($channel in @CHANNELS@) {
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
        $hex = ConvertFrom-Mac "$($said.mac)"
        if (-not $hex -or $bad.Count -or $length -notmatch '^([1-9]|[12]\d|3[0-2])$') {
            Write-Warning "What $channel says is not used: '$($said.mac)', '$($said.address)' or another value is wrong."
            continue
        }
        $bits = ('1' * $length).PadRight(32, '0')
        @{
            Status = 0; Address = $address; Length = [int]$length; Gateway = "$($said.gateway)"; Search = $said.search
            Mask = (0, 8, 16, 24 | ForEach-Object { [Convert]::ToInt32($bits.Substring($_, 8), 2) }) -join '.'
            Dns = $dns; Source = $channel; Hex = $hex; Name = $said.hostname
        }
    }
}

# The plan of a channel for one of these adapters; nothing if there is none.
function Find-Said($Said, $Adapters) {
    foreach ($plan in $Said) {
        foreach ($adapter in $Adapters) {
            if ("$($adapter.GetPhysicalAddress())" -ne $plan.Hex) { continue }
            $plan.Adapter = $adapter
            return $plan
        }
    }
}

function Set-Name($Plan) {
    if (-not $HostName) { return }
    if (-not $Plan.Name) { Write-Warning 'The host gives no name.'; return }
    if ($Plan.Name -ne [Net.Dns]::GetHostName()) { Rename-Computer -NewName $Plan.Name -Force }
}
