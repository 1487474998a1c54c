#!/bin/sh
# mac2ip: gives this machine the address its MAC stands for, without a DHCP server.
#
# Made by `macbind guest-script linux` (macbind @VERSION@) for @POOLS@.
# Do not edit it: change macbind's configuration and make it anew. It is plain POSIX sh and needs only `ip`, the one
# of iproute2 or of busybox.
set -u
LC_ALL=C
PATH=${PATH:-/bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
plain_ifs=$IFS

usage() {
  cat <<'END'
Usage: mac2ip [OPTION]...           give this machine its address
       mac2ip --decode MAC...       print ADDRESS/LENGTH GATEWAY for each MAC; - reads MACs from standard input
       mac2ip --identity            print what this machine is told about itself, as key=value lines

  -n, --dry-run, --print  say what would be done, and do nothing
  --persist WHICH         also write the network manager's configuration: networkd, networkmanager, netplan,
                          ifupdown, ifcfg, or auto to find out which one this machine has
  --hostname HOW          auto: the name the host gives, if it gives one (default); keep: never change it;
                          a pattern such as vm-%: the same as auto, else the address with dashes for the %
  --probes N              ask the network N times, a second each, whether somebody else has the address (default 1);
                          0: do not ask
  --wait SECONDS          wait so long for the interface to appear (default 0)
  --channels LIST         where to look for what the host says, of fw_cfg,smbios,xenstore (default: all); none: only
                          the MAC counts
  -h, --help, --version

Exit status: 0 done, or it was so already
             1 a command failed; what was begun has been undone
             2 the command line is not understood
             3 no interface has a MAC of the pools
             4 the MAC stands for an address that no machine may have
             5 somebody else has the address
             6 it must be run as root
             7 --persist auto found no network manager
With any status but 0 and 1 nothing has been touched.
END
}

say() { printf 'mac2ip: %s\n' "$*" >&2; }

# fail STATUS SENTENCE
fail() {
  status=$1
  shift
  say "$*"
  exit "$status"
}

# run COMMAND...: runs it, or says that it would be run. What fails ends everything.
run() {
  if [ "$dry" = yes ]; then
    printf 'would run: %s\n' "$*"
    return 0
  fi
  said=$("$@" 2>&1 </dev/null) && return 0
  undo
  fail 1 "'$*' failed: $said"
}

# put FILE MODE TEXT: a file appears whole, and only if it is not so already.
put() {
  if [ -f "$1" ] && [ "$(cat "$1" 2>/dev/null && echo .)" = "$3
." ]; then
    return 0
  fi
  if [ "$dry" = yes ]; then
    printf 'would write %s:\n%s\n' "$1" "$3"
    return 0
  fi
  new=$1.mac2ip
  if mkdir -p "${1%/*}" && (umask 077 && printf '%s\n' "$3" >"$new") && chmod "$2" "$new" && mv -f "$new" "$1"; then
    return 0
  fi 2>/dev/null
  rm -f "$new" 2>/dev/null
  undo
  fail 1 "$1 cannot be written."
}

# drop FILE: removes it if it is there.
drop() {
  [ -e "$1" ] || return 0
  run rm -f "$1"
}

# pause: a moment; a whole second where sleep knows no less.
pause() { sleep 0.1 2>/dev/null || sleep 1; }
