
# -- which interface gets which address ---------------------------------------------------------------------------

# cards: the names of this machine's network cards, a line each; see `card`.
cards() {
  for path in /sys/class/net/*; do
    name=${path##*/}
    case $name in '*' | -* | *[!A-Za-z0-9_.:-]*) continue ;; esac
    ! card "$path" || printf '%s\n' "$name"
  done 2>/dev/null
}

# card PATH: whether this is a network card. Bridges, bonds, VLANs, macvtaps and what else lies on top of a card has
# often the card's MAC, or that of a virtual machine; and what is in a bridge or bond has its address there.
card() {
  { read -r hardware <"$1/type" && [ "$hardware" = 1 ]; } || return 1 # Ethernet
  for sign in bridge bonding tun_flags master; do
    [ ! -e "$1/$sign" ] || return 1
  done
  for sign in "$1"/lower_*; do # A card may have a twin below, on Hyper-V for example; it is hardware.
    [ ! -e "$sign" ] || [ -e "$1/device" ] || return 1
  done
  # Kernels before 3.9 do not show what a card lies on.
  case $(cat "$1/uevent") in
    *DEVTYPE=vlan* | *DEVTYPE=vxlan*) return 1 ;;
  esac
}

# interface_of MAC: sets $interface to the card with this MAC. Fails if there is none.
interface_of() {
  for interface in $(cards); do
    read -r found <"/sys/class/net/$interface/address" && [ "$found" = "$1" ] && return 0
  done 2>/dev/null
  return 1
}

# row LINE: sets $interface, $mac, $address, $length, $gateway, $dns, $search and $source from a line of the plan.
row() {
  set -f
  IFS='|'
  # shellcheck disable=SC2086
  set -- $1
  IFS=$plain_ifs
  set +f
  interface=$1 mac=$2 address=$3 length=$4 gateway=$5 dns=$6 search=$7 source=$8
}

# first: the same from the first line.
first() { row "${plan%%"$newline"*}"; }

# each FUNCTION: calls it for every line of the plan, whose values are set. (No here-documents: many shells need a
# place to write for these, and early in a boot there may be none.)
each() {
  job=$1
  set -f
  IFS=$newline
  # shellcheck disable=SC2086
  set -- $plan
  IFS=$plain_ifs
  set +f
  for line; do
    row "$line"
    "$job"
  done
}

# survey: makes the plan: lines INTERFACE|MAC|ADDRESS|LENGTH|GATEWAY|DNS|SEARCH|SOURCE, the most important first. Sets
# $plan, or $why and $problem (an exit status) if it is empty.
survey() {
  plan='' problem=3 reasons='' seen='' done_macs=''
  identify
  if [ -n "$told_by" ]; then
    interface_of "$told_mac"
    done_macs=" $told_mac "
    plan="$interface|$told_mac|${told_address%/*}|${told_address##*/}|$told_gateway|$told_dns|$told_search|$told_by"
  fi
  for interface in $(cards); do
    read -r found <"/sys/class/net/$interface/address" || continue
    seen="$seen $interface=$found"
    case $done_macs in *" $found "*) continue ;; esac
    if decode "$found"; then
      done_macs="$done_macs $found "
      plan="$plan${plan:+$newline}$interface|$mac|$address|$length|$gateway|$dns|$search|pool $pool"
    elif [ $? = 4 ]; then
      problem=4 reasons="$reasons $interface: $why"
    fi
  done
  for path in /sys/class/net/*; do
    if [ -e "$path/master" ] && read -r found <"$path/address"; then
      seen="$seen ${path##*/}=$found (passed over: it is in a bridge or bond)"
    fi
  done
  if [ "$problem" = 4 ]; then
    why="No interface is configured.$reasons"
  else
    why="No interface has a MAC of the pools, which begin with @PREFIXES@. There are:${seen:- none}."
  fi
}

# settle: waits until udev has named what is there, then $wait seconds at the most for a card with a MAC of the pools.
settle() {
  left=$((wait * 10))
  names
  survey
  while [ -z "$plan" ] && [ "$left" -gt 0 ]; do
    pause
    left=$((left - passed))
    survey
    [ -z "$plan" ] || { # It has come just now, and its name may change.
      names
      survey
    }
  done
  [ -z "$refusals" ] || say "$refusals"
}

names() {
  if [ -S /run/udev/control ] && command -v udevadm >/dev/null 2>&1; then
    udevadm settle --timeout=30 >/dev/null 2>&1
  fi
}
