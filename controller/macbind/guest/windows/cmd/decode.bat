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
@SUMS@
set "HIT="
set "WHY=%MAC% does not belong to a pool: their MACs begin with @PREFIXES@."
@HANDED@
if not defined HIT goto subnets
:taken
set "STATUS=0"
@FACTS@
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
exit /b 0
rem Without separators, or with dots after two bytes each.
:bare
if defined A2 exit /b 0
if "%A1:~4,1%%A1:~9,1%"==".." set "A1=%A1:~0,4%%A1:~5,4%%A1:~10%"
if not "%A1:~0,12%"=="%A1%" exit /b 0
if "%A1:~0,11%"=="%A1%" exit /b 0
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

