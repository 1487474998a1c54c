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

