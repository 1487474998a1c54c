
# probe: switches the NIC on, and ends the script if another machine has the address.
probe() {
  read -r flags <"/sys/class/net/$interface/flags" || fail 1 "$interface is gone."
  if [ $((flags & 1)) = 0 ]; then
    run ip link set "$interface" up
    later ip link set "$interface" down
  fi
  [ "$probes" != 0 ] && ! has "$address/$length" || return 0
  if [ "$dry" = yes ]; then
    echo "would ask on $interface whether another machine has $address"
  elif ! carrier; then
    say "$interface has no carrier; the network could not be asked whether another machine has $address."
  elif taken; then
#:manager     undo
#:manager     withdraw
    fail 5 "$interface is not configured: another machine ($by) has $address, the address of $mac."
  fi
}

# has ADDRESS/LENGTH: whether the NIC has this address.
has() { ip -4 addr show dev "$interface" 2>/dev/null | grep -q " $1 "; }

# carrier: waits up to 2 seconds for the NIC's carrier. A virtual NIC has it at once.
carrier() {
  left=20
  until { read -r up <"/sys/class/net/$interface/carrier"; } 2>/dev/null && [ "$up" = 1 ]; do
    [ "$left" -gt 0 ] || return 1
    pause
  done
}

# taken: asks by ARP; $by is the MAC of the machine that answers. Fails if no machine answers.
taken() {
  ip neigh flush to "$address" dev "$interface" >/dev/null 2>&1
  if ip neigh replace "$address" dev "$interface" use 2>/dev/null; then # the kernel asks
    left=$((probes * 10)) by=
    while [ "$left" -gt 0 ]; do
      by=$(ip neigh show "$address" dev "$interface")
      case $by in *lladdr* | *FAILED*) break ;; esac
      pause
    done
    ip neigh del "$address" dev "$interface" 2>/dev/null
    case $by in *lladdr*) by=${by#*lladdr } by=${by%% *} ;; *) return 1 ;; esac
  else # The ip of busybox cannot do that, but busybox has arping.
    by=$(arping -D -c "$probes" -w "$probes" -I "$interface" "$address" 2>&1 </dev/null)
    case $by in
      *eply\ from*\[*:*\]*) by=${by#*\[} by=${by%%\]*} ;;
      *[Ss]ent*) return 1 ;;
      *) say "The network could not be asked whether another machine has $address: $by" && return 1 ;;
    esac
  fi
}
