rem -- which adapter ------------------------------------------------------------------------------------------

rem :live: looks at all adapters that show a MAC, which are those that are enabled. The first one of a pool is FOUND.
rem SHOWN=1 if the one that is called CNAME is among them.
:live
set "SHOWN="
for /f "delims=" %%l in ('getmac /fo csv /nh /v') do call :row %%l
exit /b 0

rem :row NAME ADAPTER MAC TRANSPORT: the transport is \Device\Tcpip_{GUID}, or a sentence if no cable is plugged in.
rem An adapter that is disabled has a word in place of its MAC, or no row at all.
:row
if defined FOUND exit /b 0
call :decode "%~3"
if defined BAD exit /b 0
if "%~1"=="%CNAME%" set "SHOWN=1"
if %STATUS%==4 if not defined PROBLEM set "PROBLEM=%WHY%"
if not %STATUS%==0 exit /b 0
set "FOUND=1"
set "NAME=%~1"
set "GUID="
for /f "tokens=2 delims={}" %%g in ("%~4") do set "GUID=%%g"
exit /b 0

rem :connections WHAT: calls :WHAT for each connection of an adapter, with CNAME, CGUID and CPNP (which device it is).
rem The registry knows those that are disabled too.
:connections
set "WHAT=%~1"
set "CNAME="
set "CPNP="
for /f "tokens=1,2,*" %%a in ('reg query "%CONTROL%\Control\Network\%NETWORK%" /s') do call :value "%%a" "%%c"
call :connection
exit /b 0

:value
set "WORD=%~1"
if /i "%WORD:~0,5%"=="HKEY_" goto key
if /i "%WORD%"=="Name" set "CNAME=%~2"
if /i "%WORD%"=="PnpInstanceID" set "CPNP=%~2"
exit /b 0
:key
call :connection
set "CNAME="
set "CPNP="
set "CGUID="
for /f "tokens=4 delims={}" %%g in ("%WORD%") do set "CGUID=%%g"
exit /b 0

:connection
if not defined CNAME exit /b 0
if not defined CPNP exit /b 0
if not defined CGUID exit /b 0
goto %WHAT%

rem :guid: the GUID of the connection that was found.
:guid
if "%CNAME%"=="%NAME%" set "GUID=%CGUID%"
exit /b 0

rem :wake: a connection that is disabled, if nothing was found yet. Its MAC is in the registry if an admin wrote one
rem there. Otherwise the adapter is enabled, as it is: a MAC is read without giving it an address first. If it is no
rem pool's, it is disabled again. Windows may take a moment until it shows the MAC.
:wake
if defined FOUND exit /b 0
if /i "%CPNP:~0,5%"=="ROOT\" exit /b 0
if /i "%CPNP:~0,3%"=="SW\" exit /b 0
call :sleeps
if not defined SLEEPS exit /b 0
set "DRIVER="
set "WRITTEN="
for /f "tokens=1,2,*" %%a in ('reg query "%CONTROL%\Enum\%CPNP%" /v Driver 2^>nul') do if /i "%%a"=="Driver" set "DRIVER=%%c"
if not defined DRIVER exit /b 0
for /f "tokens=1,2,*" %%a in ('reg query "%CONTROL%\Control\Class\%DRIVER%" /v NetworkAddress 2^>nul') do if /i "%%a"=="NetworkAddress" set "WRITTEN=%%c"
if not defined WRITTEN goto wake_to_read
call :decode "%WRITTEN%"
if %STATUS%==4 if not defined PROBLEM set "PROBLEM=%WHY%"
if not %STATUS%==0 exit /b 0
set "FOUND=1"
set "NAME=%CNAME%"
set "GUID=%CGUID%"
set "ASLEEP=1"
exit /b 0
:wake_to_read
if defined DRY echo mac2ip: "%CNAME%" is disabled; it would be enabled, and disabled again if its MAC is no pool's.
if defined DRY set "UNREAD=1"
if defined DRY exit /b 0
call :switch enable
if defined FAILED exit /b 0
call :live
if not defined SHOWN call :pause 2
if not defined SHOWN call :live
if defined FOUND exit /b 0
call :switch disable
exit /b 0

rem :pause SECONDS: as long as so many questions to this machine itself take.
:pause
set /a "QUESTIONS=%1+1"
call ping -n %QUESTIONS% 127.0.0.1 >nul
exit /b 0

rem :sleeps: SLEEPS=1 if CPNP is disabled: by bit 0 of ConfigFlags, or of CSConfigFlags in the hardware profile. What
rem getmac does not show may also be one that is no longer there, such as the template's own, or one that is hidden.
:sleeps
set "SLEEPS="
for /f "tokens=1,2,*" %%a in ('reg query "%CONTROL%\Enum\%CPNP%" /v ConfigFlags 2^>nul') do if /i "%%a"=="ConfigFlags" call :odd %%c
for /f "tokens=1,2,*" %%a in ('reg query "%PROFILE%\Enum\%CPNP%" /v CSConfigFlags 2^>nul') do if /i "%%a"=="CSConfigFlags" call :odd %%c
exit /b 0
:odd
set /a "ODD=%1-%1/2*2"
if %ODD%==1 set "SLEEPS=1"
exit /b 0

rem :switch enable or disable: the adapter of CNAME and CPNP; FAILED is a sentence if that failed. On Windows XP devcon is
rem the only one that can; its exit code 1 stands for a success that asks for a restart.
:switch
set "FAILED="
set "WOKEN=%1"
if defined OLD goto switch_old
call :run netsh interface set interface name="%CNAME%" admin=%1d
if not errorlevel 1 exit /b 0
set "FAILED=It could not be %1d."
goto switch_failed
:switch_old
set "DEVCON="
for %%d in (devcon.exe devcon.cmd devcon.bat) do if not "%%~$PATH:d"=="" set "DEVCON=%%~$PATH:d"
if exist devcon.exe set "DEVCON=%~dp0devcon.exe"
set "FAILED=Windows XP needs devcon.exe, beside this file or on PATH, to have it %1d."
if not defined DEVCON goto switch_failed
set "FAILED="
call :run "%DEVCON%" %1 "@%CPNP%"
if not errorlevel 2 exit /b 0
set "FAILED=devcon could not have it %1d."
:switch_failed
>&2 echo mac2ip: "%CNAME%": %FAILED%
exit /b 0

