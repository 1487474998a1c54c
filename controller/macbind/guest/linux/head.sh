#!/bin/sh
# mac2ip: gives this machine the address that its MAC stands for, without a DHCP server.
# Made by `macbind guest-script linux` (macbind @VERSION@) for @POOLS@.
# Do not edit it: change macbind's configuration and make it again.
# It is POSIX sh and needs `ip`, of iproute2 or of busybox.
# shellcheck disable=SC2046,SC2086 # Texts are split into words on purpose.
set -u
export LC_ALL=C "PATH=${PATH:-/bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
plain_ifs=$IFS

usage() {
  cat <<'END'
Usage: mac2ip [OPTION]...      give this machine its address
       mac2ip --decode MAC...  print ADDRESS/LENGTH GATEWAY for each MAC
#:channels        mac2ip --identity       print what the host says of this machine, as lines key=value
  -n, --dry-run   print what would be done, and do nothing
  --wait=SECONDS  wait so long for a NIC with a MAC of the pools (default 0)
  --probes=N      ask the network N times whether another machine has the address (default 2); 0: do not ask
#:hostname   --hostname=HOW  auto: the name that the host gives, if any (default); keep: never change the name;
#:hostname                   a pattern such as vm-%: like auto, else the address with dashes in place of %
  -h, --help, --version
Exit status: 0 done, or nothing was to do; 1 a command failed, and all changes were undone; 2 the command line is wrong;
  3 no NIC has a MAC of the pools; 4 the MAC stands for an address that no machine may have; 5 another machine has the
  address; 6 the script needs root
#:auto   7 no network manager was found
END
}

say() { printf 'mac2ip: %s\n' "$*" >&2; }

# fail STATUS SENTENCE: undoes all changes and ends the script.
fail() {
  undo
  say "$2"
  exit "$1"
}

# attempt COMMAND...: runs a command, or prints it in a dry run; $said is the command's output.
attempt() {
  [ "$stopped" = no ] || fail 1 'It was told to stop.'
  if [ "$dry" = no ]; then
    said=$("$@" 2>&1 </dev/null)
  else
    printf 'would run: %s\n' "$*"
  fi
}

# run COMMAND...: the same, but a failure ends the script.
run() { attempt "$@" || fail 1 "'$*' failed: $said"; }

# later COMMAND...: a command for undo, which runs the newest first. Its words need no quotes.
later() { [ "$dry" = yes ] || begun="back $*; $begun"; }
back() { "$@" >/dev/null 2>&1 || say "One change could not be undone: '$*' failed."; }
undo() {
  eval "$begun"
  begun=:
#:files   clear_copies
}

# pause: waits 0.1 s and counts it off $left; 1 s where sleep knows whole seconds only.
pause() {
  [ "$stopped" = no ] || fail 1 'It was told to stop.'
  left=$((left - 1))
  sleep 0.1 2>/dev/null || { sleep 1 && left=$((left - 9)); }
}
