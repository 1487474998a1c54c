
# configure: gives the NIC its address and its default route. The first NIC's route comes first, then the others'.
configure() {
#:channels   keep_defaults
#:channels   forget
  if ! has "$address/$length"; then
    run ip addr add "$address/$length" $([ "$length" -gt 30 ] || echo brd +) dev "$interface"
    later ip addr del "$address/$length" dev "$interface"
  fi
  [ -n "$gateway" ] || return 0
  metric=$rank rank=$((rank + 100))
  ! ip -4 route show | grep -q "^default via $gateway dev $interface " || return 0
#:outside   if outside; then
#:outside     run ip route replace "$gateway/32" dev "$interface"
#:outside     later ip route del "$gateway/32" dev "$interface"
#:outside   fi
  while :; do
    set -- default via "$gateway" dev "$interface" proto static
    [ "$metric" = 0 ] || set -- "$@" metric "$metric"
    attempt ip route add "$@" && break
    case $said in *exists*) metric=$((metric + 1)) ;; *) fail 1 "'ip route add $*' failed: $said" ;; esac
  done
  later ip route del "$@"
  [ "$metric" -le "$((rank - 100))" ] || say "$interface: the default route of another NIC comes before its own."
}

# resolve: sets the DNS servers and the domain of the first NIC that has some. If that fails, the machine keeps its address.
resolve() {
  servers='' domains=''
  each gather
  text=$(resolv_lines && grep -E '^(options|sortlist)' /etc/resolv.conf 2>/dev/null)
  [ -n "$servers$domains" ] && [ "$(cat /etc/resolv.conf 2>/dev/null)" != "$text" ] || return 0
  link=$(readlink /etc/resolv.conf 2>/dev/null)
  case $link in
#:resolved     *run/systemd/resolve/*) resolve_by_systemd ;;
#:resolved     *run/resolvconf/*) resolve_by_resolvconf ;;
#:unresolved     *run/systemd/resolve/* | *run/resolvconf/*) said="another program writes $link" && false ;;
    *) attempt write_into /etc/resolv.conf "$text" ;;
  esac || say "The DNS servers ($servers) are not set: $said"
}

gather() { servers=${servers:-$dns} domains=${domains:-$search}; }

resolv_lines() {
  [ -z "$domains" ] || echo "search $domains"
  for one in $servers; do echo "nameserver $one"; done
}

# write_into FILE TEXT: a link stays a link, and a mounted file stays mounted.
write_into() { printf '%s\n' "$2" >"$1"; }
