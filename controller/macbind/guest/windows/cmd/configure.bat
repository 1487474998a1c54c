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

