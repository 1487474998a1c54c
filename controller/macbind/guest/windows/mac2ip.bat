@echo off
rem mac2ip: gives this machine the address its MAC stands for, without a DHCP server.
rem Made by "macbind guest-script windows-batch" (macbind @VERSION@) for @POOLS@.
rem Do not edit it: change macbind's configuration and make it anew. Notes are at its end.
goto main

:decode_file
if "%~2"=="" >&2 echo mac2ip: /decodefile needs a file with a MAC on each line.
if "%~2"=="" exit /b 2
if not exist "%FILE%" >&2 echo mac2ip: There is no file "%FILE%".
if not exist "%FILE%" exit /b 2
for /f "usebackq tokens=1 delims=, " %%m in ("%FILE%") do call :print "%%m"
exit /b %WORST%

:print
call :decode "%~1"
if %STATUS%==0 echo %ADDRESS%/%LENGTH% %GATEWAY%
if %STATUS%==0 exit /b 0
goto print_why
:decode
rem :decode MAC: sets MAC, ADDRESS, LENGTH, MASK, GATEWAY, SEARCH (- is none) and DNS, and STATUS to 0. Otherwise STATUS
rem is the exit code that fits, and WHY a sentence, or BAD=1 if the text is no MAC.
set "WHY="
set "STATUS=3"
set "BAD=1"
set "MAC=%~1"
if not defined MAC exit /b 0
set "A1="
if not "%MAC:;=%"=="%MAC%" exit /b 0
for /f "tokens=1-7 delims=:-" %%a in ("%MAC%") do (
  set "A1=%%a"
  set "A2=%%b"
  set "A3=%%c"
  set "A4=%%d"
  set "A5=%%e"
  set "A6=%%f"
  set "A7=%%g"
)
if not defined A1 exit /b 0
if not defined A6 goto bare
if defined A7 exit /b 0
if not "%A1%:%A2%:%A3%:%A4%:%A5%:%A6%"=="%MAC%" if not "%A1%-%A2%-%A3%-%A4%-%A5%-%A6%"=="%MAC%" exit /b 0
:digits
if not "%A1:~0,2%%A2:~0,2%%A3:~0,2%%A4:~0,2%%A5:~0,2%%A6:~0,2%"=="%A1%%A2%%A3%%A4%%A5%%A6%" exit /b 0
set "LEFT="
for /f "delims=0123456789abcdefABCDEF" %%x in ("0%A1%%A2%%A3%%A4%%A5%%A6%") do set "LEFT=1"
if defined LEFT exit /b 0
set "BAD="
set /a "B1=0x%A1%,B2=0x%A2%,B3=0x%A3%,B4=0x%A4%,B5=0x%A5%,B6=0x%A6%"
set /a "P3=B1*65536+B2*256+B3,P2=B1*256+B2,N=B4*65536+B5*256+B6"
set "HIT="
@HANDED@
if not defined HIT goto subnets
:taken
set "STATUS=0"
@TAKEN@
for /f "tokens=1-5,*" %%a in ("%FACTS%") do (
  set "ADDRESS=%%a"
  set "LENGTH=%%b"
  set "MASK=%%c"
  set "GATEWAY=%%d"
  set "SEARCH=%%e"
  set "DNS=%%f"
)
exit /b 0
rem No pool hands it out. An admin may have reserved an address of a subnet by hand, if it is not forbidden there.
:subnets
@SUBNETS@
if defined HIT goto taken
if defined WHY set "STATUS=4"
if not defined WHY set "WHY=%MAC% does not belong to a pool: their MACs begin with @PREFIXES@."
exit /b 0
rem Without separators, or with dots after two bytes each.
:bare
if defined A2 exit /b 0
if "%A1:~4,1%%A1:~9,1%"==".." set "A1=%A1:~0,4%%A1:~5,4%%A1:~10%"
if not "%A1:~12%"=="" exit /b 0
if "%A1:~11%"=="" exit /b 0
set "A2=%A1:~2,2%"
set "A3=%A1:~4,2%"
set "A4=%A1:~6,2%"
set "A5=%A1:~8,2%"
set "A6=%A1:~10,2%"
set "A1=%A1:~0,2%"
goto digits

:print_why
if %WORST%==0 set "WORST=%STATUS%"
if defined BAD >&2 echo mac2ip: "%~1" is not a MAC.
if not defined BAD >&2 echo mac2ip: %WHY%
echo -
exit /b 0

:decode_args
shift
if "%~1"=="" >&2 echo mac2ip: /decode needs a MAC.
if "%~1"=="" exit /b 2
:decode_next
call :print "%~1"
shift
if not "%~1"=="" goto decode_next
exit /b %WORST%

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

rem -- what is done -------------------------------------------------------------------------------------------

rem :run COMMAND: runs it, or says that it would be run.
:run
if defined DRY echo would run: %*
if defined DRY exit /b 0
call %*
exit /b %errorlevel%

rem :system: sets VALIDATE and OLD. Windows 7 and up ask a DNS server before they take it, unless told not to; this
rem takes seconds and fails while the network is young. Windows XP has its version in brackets, as others do.
:system
set "OLD="
set "VALIDATE="
set "MAJOR="
set "RELEASE="
for /f "tokens=2 delims=[]" %%v in ('ver') do set "RELEASE=%%v"
if not defined RELEASE for /f "delims=" %%v in ('ver') do set "RELEASE=%%v"
for /f "tokens=1,2 delims=." %%a in ("%RELEASE%") do (
  set "MAJOR=%%a"
  set "MINOR=%%b"
)
for %%m in (%MAJOR%) do set "MAJOR=%%m"
if "%MAJOR%"=="5" set "OLD=1"
if "%MAJOR%"=="5" exit /b 0
if "%MAJOR%.%MINOR%"=="6.0" exit /b 0
set "VALIDATE=validate=no"
exit /b 0

rem :already: ALREADY=1 if the machine has the address, mask, gateway, domain and DNS servers, from whomever. Each value
rem that ipconfig shows becomes a variable HAS_value. All DNS servers but the first stand on lines without a name.
:already
set "ALREADY="
if defined ASLEEP exit /b 0
for /f "tokens=1 delims==" %%v in ('set HAS_ 2^>nul') do set "%%v="
for /f "tokens=1,2 delims=:(" %%i in ('ipconfig /all') do call :has "%%i" "%%j"
for %%v in (%ADDRESS% %MASK% %GATEWAY% %SEARCH% %DNS%) do if not "%%v"=="-" if not defined HAS_%%v exit /b 0
set "ALREADY=1"
exit /b 0
:has
set "VALUE="
for /f "tokens=1" %%v in ("%~1") do set "VALUE=%%v"
for /f "tokens=1" %%v in ("%~2") do set "VALUE=%%v"
set "HAS_%VALUE%=1"
exit /b 0

rem :address: address, mask and gateway in one call of netsh, then the DNS domain and servers. FAILED is a sentence if
rem one of these failed. Windows reads the domain when the servers change.
:address
set "FAILED="
set "WAY=%GATEWAY% 1"
if "%GATEWAY%"=="-" set "WAY=none"
call :run netsh interface ip set address name="%NAME%" static %ADDRESS% %MASK% %WAY%
if not errorlevel 1 goto resolvers
set "FAILED=netsh could not set the address %ADDRESS%."
exit /b 0
:resolvers
if not "%SEARCH%"=="-" call :domain
set "COUNT=0"
for %%d in (%DNS%) do call :dns %%d
exit /b 0
:dns
set /a COUNT+=1
if not %COUNT%==1 goto dns_more
call :run netsh interface ip set dns name="%NAME%" static %1 primary %VALIDATE%
if errorlevel 1 set "FAILED=netsh could not set the DNS server %1."
exit /b 0
:dns_more
call :run netsh interface ip add dns name="%NAME%" %1 index=%COUNT% %VALIDATE%
if errorlevel 1 set "FAILED=netsh could not set the DNS server %1."
exit /b 0
:domain
if not defined GUID call :connections guid
if not defined GUID set "FAILED=The registry does not know it, so it has no DNS domain."
if not defined GUID exit /b 0
call :run reg add "%CONTROL%\Services\Tcpip\Parameters\Interfaces\{%GUID%}" /v Domain /t REG_SZ /d %SEARCH% /f
if errorlevel 1 set "FAILED=reg could not set the DNS domain."
exit /b 0

rem :check: sets USABLE. Windows asks the network itself whether somebody has the address, and does not use it then.
rem So it is enough to see whether it is in use here. Windows takes up to three seconds, hence five questions. Only an
rem answer has "TTL=" in it, in every language. It is asked from the address itself, or somebody else's answer would count
rem if another adapter leads to them; Windows XP cannot do that.
:check
set "USABLE="
set "SOURCE=-S %ADDRESS%"
if defined OLD set "SOURCE="
for /f "delims=" %%l in ('ping -n 5 -w 1000 %SOURCE% %ADDRESS% ^| find "TTL="') do set "USABLE=1"
exit /b 0

rem :privileged: sets ADMIN if this may change things. Only an administrator can read this key.
:privileged
set "ADMIN=1"
if defined DRY exit /b 0
call reg query HKU\S-1-5-19 >nul 2>&1
if not errorlevel 1 exit /b 0
set "ADMIN="
>&2 echo mac2ip: Run it as an administrator.
exit /b 0

:configure
call :privileged
if not defined ADMIN exit /b 6
set "FOUND="
set "PROBLEM="
set "ASLEEP="
set "UNREAD="
set "WOKEN="
set "CNAME="
call :system
:look
call :live
if not defined FOUND call :connections wake
if defined FOUND goto found
if defined UNREAD exit /b 0
if not defined WAIT goto nothing
set "WAIT="
call :pause 30
goto look
:nothing
if defined PROBLEM >&2 echo mac2ip: %PROBLEM%
if defined PROBLEM exit /b 4
if defined FAILED exit /b 1
>&2 echo mac2ip: No adapter of this machine has a MAC of the pools; these begin with @PREFIXES@.
exit /b 3
:found
call :already
if defined ALREADY if defined CHECK if not defined DRY goto check_it
if defined ALREADY echo mac2ip: "%NAME%" %MAC% has %ADDRESS%/%LENGTH% already.
if defined ALREADY exit /b 0
rem Windows XP gives an address to an adapter that is disabled; later ones know an adapter only when it is enabled.
set "FAILED="
if defined ASLEEP if not defined OLD call :switch enable
if defined FAILED exit /b 1
call :address
rem An adapter that has just been enabled may need a moment before it takes an address.
if defined FAILED if "%WOKEN%"=="enable" call :pause 2
if defined FAILED if "%WOKEN%"=="enable" call :address
if defined FAILED >&2 echo mac2ip: "%NAME%": %FAILED% Run it again when this is mended.
if defined FAILED exit /b 1
if defined ASLEEP if defined OLD call :switch enable
if defined FAILED exit /b 1
if defined DRY exit /b 0
if not defined CHECK goto done
:check_it
call :check
if defined USABLE goto done
call netsh interface ip set address name="%NAME%" dhcp
>&2 echo mac2ip: %ADDRESS% is not usable: somebody else seems to have it. It was given up.
exit /b 5
:done
if "%GATEWAY%"=="-" set "GATEWAY=none"
echo mac2ip: "%NAME%" %MAC% %ADDRESS%/%LENGTH% gateway %GATEWAY%
exit /b 0

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
rem  - "for /f" finds no word in a text of delimiters only. So a MAC is looked at for anything but digits.
rem  - Delayed expansion is off, so an exclamation mark in the name of a connection stays. Names stand in quotes, so
rem    ampersands and brackets do too.
rem  - Programs are started with "call", so that a batch file may stand in for one of them. "call" expands its line
rem    once more: percent signs and carets may not be in the name of a connection.
rem  - Labels are looked for from the beginning of the file or from where cmd is: what runs often stands first.
rem  - What a program says in the system's language is never read, only numbers and names.
