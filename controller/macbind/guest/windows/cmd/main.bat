rem -- at every start -----------------------------------------------------------------------------------------

:register
call :privileged
if not defined ADMIN exit /b 6
rem The schtasks of Windows XP cannot overwrite a task: an old one goes first, if there is one.
if not defined DRY call schtasks /delete /tn "%TASK%" /f >nul 2>&1
call :run schtasks /create /ru SYSTEM /sc onstart /tn "%TASK%" /tr "\"%SELF%\" /wait%TAIL%"
if not errorlevel 1 exit /b 0
>&2 echo mac2ip: The task could not be made.
exit /b 1

:registerrun
call :privileged
if not defined ADMIN exit /b 6
call :run reg add "%RUN%" /v "%TASK%" /t REG_SZ /d "\"%SELF%\"%TAIL%" /f
if not errorlevel 1 exit /b 0
>&2 echo mac2ip: The Run key could not be written.
exit /b 1

rem What is not there is no failure.
:unregister
call :privileged
if not defined ADMIN exit /b 6
call :run schtasks /delete /tn "%TASK%" /f
call :run reg delete "%RUN%" /v "%TASK%" /f
exit /b 0

rem -- what was asked for -------------------------------------------------------------------------------------

:main
setlocal EnableExtensions DisableDelayedExpansion
set "SELF=%~f0"
set "FILE=%~f2"
for %%v in (DRY CHECK WAIT TAIL) do set "%%v="
set "FAILED="
cd /d "%~dp0"
set "NETWORK={4D36E972-E325-11CE-BFC1-08002BE10318}"
set "CONTROL=HKLM\SYSTEM\CurrentControlSet"
set "PROFILE=%CONTROL%\Hardware Profiles\Current\System\CurrentControlSet"
set "TASK=macbind mac2ip"
set "RUN=HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Run"
set "WORST=0"
set "ACTION=configure"
if /i "%~1"=="/decode" goto decode_args
if /i "%~1"=="/decodefile" goto decode_file
:option
if "%~1"=="" goto %ACTION%
if /i "%~1"=="/dryrun" goto option_dry
if /i "%~1"=="/check" goto option_check
if /i "%~1"=="/wait" goto option_wait
for %%a in (register registerrun unregister) do if /i "%~1"=="/%%a" set "ACTION=%%a"
if /i "%~1"=="/%ACTION%" goto option_next
if "%~1"=="/?" goto help
if /i "%~1"=="/help" goto help
>&2 echo mac2ip: "%~1" is not understood. "mac2ip /help" lists what is.
exit /b 2
:option_dry
set "DRY=1"
goto option_next
:option_check
set "CHECK=1"
set "TAIL= /check"
goto option_next
:option_wait
set "WAIT=1"
:option_next
shift
goto option

:help
echo Usage: mac2ip                  give this machine its address
echo        mac2ip /dryrun          say what would be done, and do nothing
echo        mac2ip /check           see whether the address is usable afterwards; takes four seconds more
echo        mac2ip /wait            if no adapter is of a pool, look once more half a minute later
echo        mac2ip /decode MAC...   print ADDRESS/LENGTH GATEWAY for each MAC
echo        mac2ip /decodefile FILE the same for a file with a MAC on each line
echo        mac2ip /register        run with /wait at every start, as SYSTEM, before anybody logs on
echo        mac2ip /registerrun     run at every log-on, where there are no scheduled tasks
echo                                with /check, the two have it run with that too
echo        mac2ip /unregister      run no more by itself
echo.
echo Exit code: 0 done, or it was so already
echo            1 a command failed; run it again when it is mended
echo            2 the command line is not understood
echo            3 no adapter has a MAC of the pools
echo            4 the MAC stands for an address that no machine may have
echo            5 somebody else has the address
echo            6 it must be run as an administrator
echo With 2, 3, 4 and 6 nothing has been touched.
exit /b 0

rem -- notes --------------------------------------------------------------------------------------------------

rem What this takes for granted of cmd, from Windows XP on:
rem  - "set /a" computes with 32 bits and a sign. No number here is above 16777215: an address is compared as its
rem    first octet and the other 24 bits.
rem  - A number with a leading 0 is octal, with 0x hexadecimal: bytes of a MAC always get their 0x.
rem  - A substring that begins at the end of its text is empty on Windows, but not in every cmd: none begins there.
rem  - "for /f" finds no word in a text of delimiters only. So a MAC is looked at for anything but digits.
rem  - Delayed expansion is off, so an exclamation mark in the name of a connection stays. Names stand in quotes, so
rem    ampersands and brackets do too.
rem  - Programs are started with "call", so that a batch file may stand in for one of them. "call" expands its line
rem    once more: percent signs and carets may not be in the name of a connection.
rem  - Labels are looked for from the beginning of the file or from where cmd is: what runs often stands first.
rem  - What a program says in the system's language is never read, only numbers and names.
