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
