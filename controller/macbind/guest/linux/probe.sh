
# -- does somebody else have the address? -------------------------------------------------------------------------

# raise INTERFACE: switches it on and waits until it has a carrier, which a virtual card has at once. Fails if it gets
# none in 2 seconds.
raise() {
  read -r flags <"/sys/class/net/$1/flags" || give_up "$1 is gone."
  if [ $((flags & 1)) = 0 ]; then
    run ip link set "$1" up
    later ip link set "$1" down
  fi
  [ "$dry" = no ] || return 0
  left=20
  while [ "$left" -gt 0 ]; do
    { read -r carrier <"/sys/class/net/$1/carrier"; } 2>/dev/null && [ "$carrier" = 1 ] && return 0
    pause
    left=$((left - passed))
  done
  return 1
}

# has INTERFACE ADDRESS/LENGTH: whether it is configured there.
has() {
  case $(ip -4 addr show dev "$1" 2>/dev/null) in *" $2 "*) return 0 ;; esac
  return 1
}

# stranger INTERFACE ADDRESS: whether a machine answers for the address; $answer is what it said. The question comes
# from 0.0.0.0, so nobody's memory changes by it.
stranger() {
  answer=
  if ! command -v arping >/dev/null 2>&1; then
    ask_kernel "$1" "$2"
    return
  fi
  case $(arping --help 2>&1) in
    *Habets*) answer=$(arping -0 -c "$probes" -w "$probes" -i "$1" "$2" 2>&1 </dev/null) ;;
    # Of iputils and of busybox: their status says whether all is well, not whether there was an answer.
    *) answer=$(arping -D -c "$probes" -w "$probes" -I "$1" "$2" 2>&1 </dev/null) ;;
  esac
  case $answer in
    *[Rr]eply\ from*[0-9a-fA-F]:[0-9a-fA-F]* | *bytes\ from*[0-9a-f]:[0-9a-f]*) return 0 ;;
    *[Ss]ent* | *packets\ transmitted*) return 1 ;;
  esac
  say "Whether somebody else has $2 could not be asked: arping says: ${answer:-nothing}"
  return 1
}

# ask_kernel INTERFACE ADDRESS: the same by the kernel's own ARP, where `ip` can tell it to ask. It names an address of
# this machine as the asker's if there is one.
ask_kernel() {
  ip neigh flush to "$2" dev "$1" 2>/dev/null
  if ! ip neigh replace "$2" dev "$1" use 2>/dev/null; then
    say "Whether somebody else has $2 was not asked: there is no arping on this machine."
    return 1
  fi
  left=$((probes * 10))
  while [ "$left" -gt 0 ]; do
    answer=$(ip neigh show "$2" dev "$1")
    case $answer in
      *lladdr*) break ;;
      *FAILED*) left=0 ;;
    esac
    pause
    left=$((left - passed))
  done
  ip neigh del "$2" dev "$1" 2>/dev/null
  case $answer in *lladdr*) return 0 ;; esac
  return 1
}

# probe_all: ends the script if one of the plan's addresses is somebody else's.
probe_all() { each probe; }

probe() {
  raise "$interface" || {
    say "$interface has no carrier; whether somebody else has $address could not be asked."
    return 0
  }
  if [ "$probes" = 0 ] || has "$interface" "$address/$length"; then
    return 0
  fi
  if [ "$dry" = yes ]; then
    echo "would ask on $interface whether somebody else has $address"
  elif stranger "$interface" "$address"; then
    undo
    by=
    set -f # an answer has its MAC in brackets
    for word in $answer; do
      case $word in *:*:*:*:*:*) by=${word#[} && by=${by%]} && break ;; esac
    done
    set +f
    refusal="$interface is not configured: another machine${by:+ ($by)} has $address, the address of $mac."
    withdraw
    fail 5 "$refusal"
  fi
}
