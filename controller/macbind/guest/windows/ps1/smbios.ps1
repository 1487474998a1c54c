
# OEM strings (type 11).
function Read-Smbios {
    foreach ($line in (Get-CimInstance -ClassName Win32_ComputerSystem).OEMStringArray) {
        if ($line -like 'macbind:*') { $line.Substring(8) }
    }
}
