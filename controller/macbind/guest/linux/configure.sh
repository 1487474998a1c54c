
# -- run time -----------------------------------------------------------------------------------------------------

state=/run/macbind

# undo: takes back what this run has begun: addresses first, then interfaces that were down before.
undo() {
  for pair in $added; do
    ip addr del "${pair#*=}" dev "${pair%%=*}" 2>/dev/null
  done
  for interface in $raised; do
    [ "$dry" = yes ] || ip link set "$interface" down 2>/dev/null
  done
  added='' raised=''
}

# outside GATEWAY ADDRESS LENGTH: whether a gateway is not on the address's own subnet.
outside() {
  number "$1" && first=$number && number "$2" || return 1
  [ $((first >> (32 - $3))) != $((number >> (32 - $3))) ]
}

# configure_all: gives every interface of the plan its address and routes. The first gateway is the default one;
# those of further interfaces are ways out if the first is gone.
configure_all() {
  metric=0
  while IFS='|' read -r interface mac address length gateway _; do
    forget "$interface" "$address/$length"
    if ! has "$interface" "$address/$length"; then
      if [ "$length" -le 30 ]; then
        run ip addr add "$address/$length" brd + dev "$interface"
      else
        run ip addr add "$address/$length" dev "$interface"
      fi
      added="$added $interface=$address/$length"
    fi
    [ -n "$gateway" ] || continue
    # Told with its device, a route to the gateway does no harm on its own subnet and is needed for one outside.
    ! outside "$gateway" "$address" "$length" || run ip route replace "$gateway/32" dev "$interface"
    if routed "$interface" "$gateway" "$metric"; then
      :
    elif [ "$metric" = 0 ]; then
      run ip route replace default via "$gateway" dev "$interface" proto static
    else
      run ip route replace default via "$gateway" dev "$interface" proto static metric "$metric"
    fi
    metric=$((metric + 100))
  done <<END
$plan
END
}

# routed INTERFACE GATEWAY METRIC: whether there is such a default route. A metric of 0 is not shown.
routed() {
  ip -4 route show dev "$1" 2>/dev/null | {
    while read -r line; do
      case "$line " in
        "default via $2 "*" metric $3 "*) exit 0 ;;
        "default via $2 "*" metric "*) ;;
        "default via $2 "*) [ "$3" != 0 ] || exit 0 ;;
      esac
    done
    exit 1
  }
}

# forget INTERFACE ADDRESS/LENGTH: takes away the address that an earlier run gave, if it was another.
forget() {
  { read -r old <"$state/address.$1"; } 2>/dev/null || return 0
  [ "$old" != "$2" ] && has "$1" "$old" && run ip addr del "$old" dev "$1"
  return 0
}

# remember: what this run did, and what the machine is told about itself, for forget and for programs of the machine.
remember() {
  [ "$dry" = no ] || return 0
  while IFS='|' read -r interface mac address length _; do
    put "$state/address.$interface" 600 "$address/$length"
  done <<END
$plan
END
  put "$state/identity" 600 "$(identity_lines)"
}

# identity_lines: what the host says, or what follows from the MAC, as the lines of a channel.
identity_lines() {
  if [ -n "$told" ]; then
    printf '%s\n' "$told"
    return
  fi
  IFS='|' read -r _ mac address length gateway dns search _ <<END
$plan
END
  printf 'mac=%s\naddress=%s/%s\n' "$mac" "$address" "$length"
  [ -z "$gateway" ] || printf 'gateway=%s\n' "$gateway"
  [ -z "$dns" ] || printf 'dns=%s\n' "$dns"
  [ -z "$search" ] || printf 'search=%s\n' "$search"
  [ -z "$hostname" ] || printf 'hostname=%s\n' "$hostname"
}

# resolve_all: DNS servers and domains of the plan, by whatever this machine resolves names with.
resolve_all() {
  servers='' domains='' links=''
  while IFS='|' read -r interface _ _ _ _ dns search _; do
    links="$links $interface"
    for one in $dns; do
      case " $servers " in *" $one "*) ;; *) servers="$servers${servers:+ }$one" ;; esac
    done
    case " $domains " in *" $search "*) ;; *) domains="$domains${domains:+ }$search" ;; esac
  done <<END
$plan
END
  [ -n "$servers$domains" ] || return 0
  link=$(readlink /etc/resolv.conf 2>/dev/null)
  case $link in
    *run/systemd/resolve/*) resolve_by_systemd ;;
    *run/resolvconf/*) resolve_by_resolvconf ;;
    *) resolve_by_file ;;
  esac
}

resolve_by_systemd() {
  if [ -S /run/systemd/resolve/io.systemd.Resolve ] && command -v resolvectl >/dev/null 2>&1; then
    for one in $links; do
      # shellcheck disable=SC2086
      [ -z "$servers" ] || run resolvectl dns "$one" $servers
      # shellcheck disable=SC2086
      [ -z "$domains" ] || run resolvectl domain "$one" $domains
    done
  else # it starts later and reads this
    put /run/systemd/resolved.conf.d/macbind.conf 644 "[Resolve]
DNS=$servers
Domains=$domains"
  fi
}

resolve_by_resolvconf() {
  if [ "$dry" = yes ]; then
    echo "would run: resolvconf -a ${links# }.mac2ip"
  else
    resolv_lines | resolvconf -a "${links# }.mac2ip" || say "resolvconf does not take the DNS servers."
  fi
}

resolve_by_file() {
  kept=$(while read -r line; do
    case $line in options* | sortlist*) printf '\n%s' "$line" ;; esac
  done </etc/resolv.conf) 2>/dev/null
  text=$(resolv_lines)$kept
  # A link, or a file that something is mounted on, stays what it is.
  if [ -L /etc/resolv.conf ]; then
    target=/etc/${link#/etc/}
    case $link in /*) target=$link ;; esac
    put "$target" 644 "$text"
  elif [ "$dry" = no ] && grep -q ' /etc/resolv.conf ' /proc/self/mounts 2>/dev/null; then
    printf '%s\n' "$text" >/etc/resolv.conf || say "/etc/resolv.conf cannot be written."
  else
    put /etc/resolv.conf 644 "$text"
  fi
}

resolv_lines() {
  [ -z "$domains" ] || printf 'search %s\n' "$domains"
  for one in $servers; do printf 'nameserver %s\n' "$one"; done
}

# name_it: sets $hostname, empty if the machine keeps its name.
name_it() {
  hostname=
  [ "$naming" != keep ] || return 0
  if [ -n "$told_by" ] && [ -n "$told_hostname" ]; then
    hostname=$told_hostname
    return
  fi
  case $naming in *%*) ;; *) return 0 ;; esac
  IFS='|' read -r _ _ address _ <<END
$plan
END
  IFS=.
  # shellcheck disable=SC2086
  set -- $address
  IFS=$plain_ifs
  hostname=${naming%%%*}$1-$2-$3-$4${naming#*%}
}

# rename: gives the machine the name.
rename() {
  [ -n "$hostname" ] || return 0
  read -r old </proc/sys/kernel/hostname
  [ "$old" != "$hostname" ] || return 0
  if command -v hostname >/dev/null 2>&1; then
    run hostname "$hostname"
  else
    run sh -c "echo $hostname >/proc/sys/kernel/hostname"
  fi
}
