# mac2ip: gives this machine the address that its MAC stands for, without a DHCP server.
# Made by "macbind guest-script windows" (macbind @VERSION@) for @POOLS@.
# Do not edit it: change macbind's configuration and make it again. It is for Windows 8, Server 2012 and later.
#
#   mac2ip.ps1                  give this machine its address
#   mac2ip.ps1 -DryRun          print what would be done, and do nothing
#   mac2ip.ps1 -Wait            wait up to a minute for the adapter, which may be new to Windows
#   mac2ip.ps1 -Decode MAC...   print ADDRESS/LENGTH GATEWAY for each MAC
#   mac2ip.ps1 -Register        run with -Wait at every start, as SYSTEM, before anybody logs on; -Unregister ends that
#:channels #   mac2ip.ps1 -HostName        also take the name that the host gives; it counts from the next start on
#
# Exit code: 0 done, or nothing was to do; 1 a command failed; 2 the command line is wrong; 3 no adapter has a MAC of the
# pools; 4 the MAC stands for an address that no machine may have; 5 another machine has the address, and it was given
# up; 6 an administrator must run it. With 2, 3, 4 and 6 nothing was changed.
param(
    [switch]$DryRun,
    [switch]$Wait,
    [switch]$Decode,
    [switch]$Register,
    [switch]$Unregister,
#:channels     [switch]$HostName,
    [Parameter(ValueFromRemainingArguments = $true)][string[]]$Macs = @()
)
$ErrorActionPreference = 'Stop'
$Task = 'macbind mac2ip'
$Woken = $null

# The 12 digits of a MAC in any common spelling; nothing if the text is no MAC.
function ConvertFrom-Mac([string]$Text) {
    $hex = $Text.Trim()
    if ($hex -match '^[0-9a-f]{1,2}([:-])[0-9a-f]{1,2}(\1[0-9a-f]{1,2}){4}$') {
        return ($hex.Split(':-'.ToCharArray()) | ForEach-Object { $_.PadLeft(2, '0') }) -join ''
    }
    if ($hex -match '^[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}$') { return $hex.Replace('.', '') }
    if ($hex -match '^[0-9a-f]{12}$') { return $hex }
}

# The plan for a MAC; without an address, Status is the exit code and Why a sentence. The batch file has the same lines,
# in its own language: first the ranges of the pools, then their subnets, where an admin may have reserved addresses.
function Find-Address([string]$MAC) {
    $hex = ConvertFrom-Mac $MAC
    if (-not $hex) { return @{ Status = 3; Why = "'$MAC' is not a MAC." } }
    $B1, $B2, $B3, $B4, $B5, $B6 = 0, 2, 4, 6, 8, 10 | ForEach-Object { [Convert]::ToInt32($hex.Substring($_, 2), 16) }
@SUMS@
    $HIT = $FACTS = ''
    $STATUS = '3'
    $WHY = "$MAC does not belong to a pool: their MACs begin with @PREFIXES@."
@HANDED@
    if (-not $HIT) {
@SUBNETS@
    }
    if (-not $HIT) { return @{ Status = [int]$STATUS; Why = $WHY } }
@FACTS@
    $address, $length, $mask, $gateway, $search, $dns = $FACTS -split ' '
    return @{
        Status = 0; Address = $address; Length = [int]$length; Mask = $mask; Gateway = $gateway.Trim('-')
        Search = $search.Trim('-'); Dns = @($dns | Where-Object { $_ }); Source = 'MAC'
    }
}

function Stop-With([int]$Code, [string]$Why) {
    [Console]::Error.WriteLine("mac2ip: $Why")
    exit $Code
}

function Write-Decoded {
    $worst = 0
    foreach ($text in ($Macs | ForEach-Object { $_ -split '[,\s]+' } | Where-Object { $_ })) {
        $found = Find-Address $text
        if ($found.Status -eq 0) {
            $way = '-'
            if ($found.Gateway) { $way = $found.Gateway }
            '{0}/{1} {2}' -f $found.Address, $found.Length, $way
            continue
        }
        if ($worst -eq 0) { $worst = $found.Status }
        [Console]::Error.WriteLine("mac2ip: $($found.Why)")
        '-'
    }
    exit $worst
}
