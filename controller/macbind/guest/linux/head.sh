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
newline='
'
state=/run/macbind

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
  --probes N              ask the network N times, a second each, whether somebody else has the address (default 2:
                          a switch may lose what a card says in its first second); 0: do not ask
  --wait SECONDS          wait so long for the interface to appear (default 0)
  --channels LIST         where to look for what the host says, of fw_cfg,smbios,xenstore (default: all); none: only
                          the MAC counts
  -h, --help, --version

Exit status: 0 done, or it was so already
             1 a command failed; what was begun has been taken back
             2 the command line is not understood
             3 no interface has a MAC of the pools
             4 the MAC stands for an address that no machine may have
             5 somebody else has the address
             6 it must be run as root
             7 --persist auto found no network manager
With any status but 0 the machine is as it was before. With 5, what an earlier run wrote for the network manager is
removed as well, which would take the address all the same.
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

# give_up SENTENCE: takes back what was begun, and ends the script.
give_up() {
  undo
  fail 1 "$*"
}

# run COMMAND...: runs it, or says that it would be run. What fails ends everything.
run() {
  if [ "$dry" = yes ]; then
    printf 'would run: %s\n' "$*"
    return 0
  fi
  said=$("$@" 2>&1 </dev/null) || give_up "'$*' failed: $said"
}

# later COMMAND...: what undo is to run. Its words have no | and no newline in them.
later() {
  [ "$dry" = no ] || return 0
  IFS='|'
  begun=$*$newline$begun
  IFS=$plain_ifs
}

# undo: takes back what this run has begun, the newest first.
undo() {
  set -f
  IFS=$newline
  for step in $begun; do
    IFS='|'
    # shellcheck disable=SC2086
    set -- $step
    IFS=$plain_ifs
    ("$@") >/dev/null 2>&1 || say "Not everything could be taken back: '$*' failed."
  done
  IFS=$plain_ifs
  set +f
  settled
}

# settled: what was begun up to now is not taken back any more.
settled() {
  begun=
  [ "$dry" = yes ] || rm -rf "$state/undo"
  rmdir "$state" 2>/dev/null
  return 0
}

# keep FILE: lets undo bring it back as it is now, or remove it if there is none.
keep() {
  if [ ! -e "$1" ]; then
    later rm -f "$1"
    return
  fi
  copies=$((copies + 1))
  mkdir -p "$state/undo" && cp -p "$1" "$state/undo/$copies" && later put_back "$state/undo/$copies" "$1"
}

put_back() { cp -p "$1" "$2.mac2ip" && mv -f "$2.mac2ip" "$2"; }

# write FILE MODE TEXT: a file appears whole, and only if it is not so already; $changed tells. With the mode `same`, a
# file that is there keeps its mode and its owner. Fails if it cannot be written; then nothing has changed, and $said is
# why.
write() {
  if [ -f "$1" ] && [ "$(cat "$1" 2>/dev/null && echo .)" = "$3$newline." ]; then
    return 0
  fi
  changed=yes
  if [ "$dry" = yes ]; then
    printf 'would write %s:\n%s\n' "$1" "$3"
    return 0
  fi
  new=$1.mac2ip
  said=$({ mkdir -p "${1%/*}" && like "$1" "$2" "$new" && printf '%s\n' "$3" >"$new"; } 2>&1) &&
    keep "$1" 2>/dev/null && said=$(mv -f "$new" "$1" 2>&1) && return 0
  rm -f "$new" 2>/dev/null
  return 1
}

# like FILE MODE NEW: makes the empty file NEW.
like() {
  if [ "$2" = same ] && [ -e "$1" ]; then
    cp -p "$1" "$3"
  else
    mode=$2
    [ "$mode" != same ] || mode=644
    (umask 077 && : >"$3") && chmod "$mode" "$3"
  fi
}

# put FILE MODE TEXT: writes it; what fails ends everything.
put() { write "$@" || give_up "$1 cannot be written: $said"; }

# drop FILE: removes it if it is there.
drop() {
  [ -e "$1" ] || return 0
  [ "$dry" = yes ] || keep "$1" 2>/dev/null || give_up "$1 cannot be kept to be brought back."
  run rm -f "$1"
}

# pause: a moment, $passed tenths of a second; a whole one where sleep knows no less.
pause() {
  passed=1
  sleep 0.1 2>/dev/null || {
    passed=10
    sleep 1
  }
}
