
# -- run time -----------------------------------------------------------------------------------------------------

# outside GATEWAY ADDRESS LENGTH: whether a gateway is not on the address's own subnet.
outside() {
  number "$1" && first=$number && number "$2" || return 1
  [ $((first >> (32 - $3))) != $((number >> (32 - $3))) ]
}

# configure_all: gives every interface of the plan its address and routes. The first gateway is the default one;
# those of further interfaces are ways out if the first is gone. What other cards have stays: see `free`.
configure_all() {
  rank=0 ours=' '
  each mark
  each configure
}

mark() { ours="$ours$interface "; }

configure() {
  keep_defaults
  forget "$interface" "$address/$length"
  if ! has "$interface" "$address/$length"; then
    if [ "$length" -le 30 ]; then
      run ip addr add "$address/$length" brd + dev "$interface"
    else
      run ip addr add "$address/$length" dev "$interface"
    fi
    later ip addr del "$address/$length" dev "$interface"
  fi
  [ -n "$gateway" ] || return 0
  metric=$rank rank=$((rank + 100))
  case $newline$(defaults) in *"${newline}default via $gateway dev $interface "*) return 0 ;; esac
  while ! free "$metric"; do metric=$((metric + 1)); done
  [ "$metric" -lt "$((rank - 99))" ] || say "$interface: another card's default route comes before its own."
  if outside "$gateway" "$address" "$length"; then
    run ip route replace "$gateway/32" dev "$interface"
    later ip route del "$gateway/32" dev "$interface"
  fi
  set -- default via "$gateway" dev "$interface" proto static
  [ "$metric" = 0 ] || set -- "$@" metric "$metric"
  run ip route replace "$@"
  later ip route del "$@"
}

# defaults: the default routes, a line each, as `ip` shows them.
defaults() {
  ip -4 route show 2>/dev/null | while IFS=$plain_ifs read -r route; do
    case $route in default*) printf '%s \n' "$route" ;; esac
  done
}

# keep_defaults: lets undo set the default routes of $interface again, which go with its last address.
keep_defaults() {
  set -f
  IFS=$newline
  for route in $(defaults); do
    IFS=$plain_ifs
    # shellcheck disable=SC2086
    case $route in *" dev $interface "*) later ip route replace ${route% linkdown } ;; esac
  done
  IFS=$plain_ifs
  set +f
}

# free METRIC: whether no card but those of the plan has a default route of this metric, which ours would replace.
free() {
  defaults | ( # not {}: some shells would run that themselves, and end here
    while read -r route; do
      device=${route##* dev }
      case "$ours" in *" ${device%% *} "*) continue ;; esac
      case "$route " in
        *" metric $1 "*) exit 1 ;;
        *" metric "*) ;;
        *) [ "$1" != 0 ] || exit 1 ;;
      esac
    done
    exit 0
  )
}

# forget INTERFACE ADDRESS/LENGTH: takes away the address that an earlier run gave, if it was another.
forget() {
  { read -r old <"$state/address.$1"; } 2>/dev/null || return 0
  if [ "$old" != "$2" ] && has "$1" "$old"; then
    run ip addr del "$old" dev "$1"
    later ip addr add "$old" brd + dev "$1"
  fi
}

# remember: what this run did, and what the machine is told about itself, for forget and for programs of the machine.
remember() {
  [ "$dry" = no ] || return 0
  each remember_address
  put "$state/identity" 600 "$(identity_lines)"
}

remember_address() { put "$state/address.$interface" 600 "$address/$length"; }

# identity_lines: what the host says, or what follows from the MAC, as the lines of a channel.
identity_lines() {
  if [ -n "$told" ]; then
    printf '%s\n' "$told"
    return
  fi
  first
  printf 'mac=%s\naddress=%s/%s\n' "$mac" "$address" "$length"
  [ -z "$gateway" ] || printf 'gateway=%s\n' "$gateway"
  [ -z "$dns" ] || printf 'dns=%s\n' "$dns"
  [ -z "$search" ] || printf 'search=%s\n' "$search"
  [ -z "$hostname" ] || printf 'hostname=%s\n' "$hostname"
}

# resolve_all: DNS servers and domains of the plan, by whatever this machine resolves names with. A machine that
# cannot write them down keeps its address: that is worth more.
resolve_all() {
  servers='' domains='' said=''
  each gather
  [ -n "$servers$domains" ] || return 0
  link=$(readlink /etc/resolv.conf 2>/dev/null)
  case $link in
    *run/systemd/resolve/*) resolve_by_systemd ;;
    *run/resolvconf/*) resolve_by_resolvconf ;;
    *) resolve_by_file ;;
  esac || say "The DNS servers ($servers) are not set: $said"
}

gather() {
  for one in $dns; do
    case " $servers " in *" $one "*) ;; *) servers="$servers${servers:+ }$one" ;; esac
  done
  case " $domains " in *" $search "*) ;; *) domains="$domains${domains:+ }$search" ;; esac
}

# systemd-resolved may start later, or have started before D-Bus, by which alone it can be told: it reads a file then.
resolve_by_systemd() {
  if [ -S /run/systemd/resolve/io.systemd.Resolve ] && command -v resolvectl >/dev/null 2>&1; then
    deaf=no
    each tell_resolved
    [ "$deaf" = yes ] || return 0
  fi
  changed=no
  write /run/systemd/resolved.conf.d/macbind.conf 644 "[Resolve]
DNS=$servers
Domains=$domains" || return 1
  [ "$changed" = no ] || ! running systemd-resolved || attempt systemctl --no-block restart systemd-resolved
}

tell_resolved() {
  # shellcheck disable=SC2086
  [ -z "$servers" ] || attempt resolvectl dns "$interface" $servers || deaf=yes
  # shellcheck disable=SC2086
  [ -z "$domains" ] || attempt resolvectl domain "$interface" $domains || deaf=yes
}

# attempt COMMAND...: runs it, or says that it would be run. If it fails, that is said, and the script goes on.
attempt() {
  if [ "$dry" = yes ]; then
    printf 'would run: %s\n' "$*"
    return 0
  fi
  said=$("$@" 2>&1 </dev/null) && return 0
  say "'$*' failed: $said"
  return 1
}

resolve_by_resolvconf() {
  first
  if [ "$dry" = yes ]; then
    echo "would run: resolvconf -a $interface.mac2ip"
  else
    resolv_lines | resolvconf -a "$interface.mac2ip"
  fi
}

resolve_by_file() {
  text=$(resolv_lines)$(resolver_options)
  # A link, or a file that something is mounted on, stays what it is.
  case $link in
    /*) write "$link" same "$text" ;;
    ?*) write "/etc/$link" same "$text" ;;
    *)
      if [ "$dry" = no ] && grep -q ' /etc/resolv.conf ' /proc/self/mounts 2>/dev/null; then
        printf '%s\n' "$text" 2>/dev/null >/etc/resolv.conf
      else
        write /etc/resolv.conf same "$text"
      fi
      ;;
  esac
}

# resolver_options: the lines of /etc/resolv.conf that stay.
resolver_options() {
  [ -r /etc/resolv.conf ] || return 0
  while read -r line; do
    case $line in options* | sortlist*) printf '\n%s' "$line" ;; esac
  done </etc/resolv.conf
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
  first
  IFS=.
  # shellcheck disable=SC2086
  set -- $address
  IFS=$plain_ifs
  hostname=${naming%%%*}$1-$2-$3-$4${naming#*%}
}

# rename: gives the machine the name.
rename() {
  [ -n "$hostname" ] || return 0
  read -r old </proc/sys/kernel/hostname || give_up 'What this machine is called cannot be read: /proc is not there.'
  [ "$old" != "$hostname" ] || return 0
  call_it run "$hostname"
  call_it later "$old"
}

# call_it HOW NAME: HOW is run or later.
call_it() {
  if command -v hostname >/dev/null 2>&1; then
    "$1" hostname "$2"
  else
    "$1" sh -c "echo $2 >/proc/sys/kernel/hostname"
  fi
}
