
# By default a task waits for mains power and has a low priority.
function Register-Me {
    $command = "-NoProfile -NonInteractive -ExecutionPolicy Bypass -File `"$PSCommandPath`" -Wait"
#:channels     if ($HostName) { $command += ' -HostName' }
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

if ($Decode) {
    if ($Macs.Count -eq 0) { Stop-With 2 '-Decode needs a MAC.' }
    Write-Decoded
}
if ($Macs.Count) { Stop-With 2 "'$($Macs[0])' is not understood; the beginning of this file says what is." }
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
