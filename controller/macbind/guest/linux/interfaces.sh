
# -- which interface gets which address ---------------------------------------------------------------------------

# cards: the names of this machine's network cards, a line each. Bridges, bonds, VLANs and what lies on top of a
# card has often the card's MAC, and what is in a bridge or bond has its address there; both are passed over.
cards() {
  for path in /sys/class/net/*; do
    name=${path##*/}
    case $name in '*' | *[!A-Za-z0-9_.:-]*) continue ;; esac
    { read -r hardware <"$path/type" && [ "$hardware" = 1 ]; } || continue # Ethernet
    if [ -e "$path/bridge" ] || [ -e "$path/bonding" ] || [ -e "$path/tun_flags" ] || [ -e "$path/master" ]; then
      continue
    fi
    case $(cat "$path/uevent") in
      *DEVTYPE=vlan* | *DEVTYPE=macvlan* | *DEVTYPE=ipvlan* | *DEVTYPE=vxlan*) continue ;;
    esac
    printf '%s\n' "$name"
  done 2>/dev/null
}

# interface_of MAC: sets $interface to the card with this MAC. Fails if there is none.
interface_of() {
  for interface in $(cards); do
    read -r found <"/sys/class/net/$interface/address" && [ "$found" = "$1" ] && return 0
  done 2>/dev/null
  return 1
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
      plan="$plan${plan:+
}$interface|$mac|$address|$length|$gateway|$dns|$search|pool $pool"
    elif [ $? = 4 ]; then
      problem=4 reasons="$reasons $interface: $why"
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
  if [ -S /run/udev/control ] && command -v udevadm >/dev/null 2>&1; then
    udevadm settle --timeout=30 >/dev/null 2>&1
  fi
  survey
  left=$((wait * 10))
  while [ -z "$plan" ] && [ "$left" -gt 0 ]; do
    pause
    left=$((left - 1))
    survey
  done
  [ -z "$refusals" ] || say "$refusals"
}
