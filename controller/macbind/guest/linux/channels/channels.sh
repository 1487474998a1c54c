
# A channel has lines key=value: mac, address (with prefix length), gateway, dns, search, hostname, data.KEY.

# identify: takes the first channel that is about this machine. It begins $plan and sets the $told variables; $refusals
# says what is wrong with the other channels.
identify() {
  told='' told_mac='' told_hostname='' refusals=''
  for channel in $channels; do
    told=$("$channel")
    [ -n "$told" ] || continue
    take
    if check; then
      told_by=$channel plan=" $interface " macs=" $told_mac "
      return
    fi
    refusals="$refusals${refusals:+ }What $channel says is not used: $why"
    told='' told_mac='' told_hostname=''
  done
}

# take: sets the $told variables from the lines in $told.
take() {
  told_mac='' told_address='' told_gateway='' told_dns='' told_search='' told_hostname=''
  set -f
  IFS=$newline
  for line in $told; do
    IFS=$plain_ifs
    case $line in
      mac=*) normal "${line#*=}" && told_mac=$mac ;;
      address=*) told_address=${line#*=} ;;
      gateway=*) told_gateway=${line#*=} ;;
      dns=*) told_dns=${line#*=} ;;
      search=*) told_search=${line#*=} ;;
      hostname=*) told_hostname=${line#*=} ;;
    esac
  done
  set +f
  IFS=$plain_ifs
}

# check: whether the $told variables are about a NIC of this machine, which it sets $interface to, and are well formed.
# Otherwise $why is a sentence.
check() {
  why='it names no MAC.'
  [ -n "$told_mac" ] || return 1
  why="it is about $told_mac, which is no NIC of this machine. Was the identity copied from another machine?"
  interface_of "$told_mac" || return 1
  why="'$told_address' is no address."
  is_address "${told_address%/*}" || return 1
  why="'$told_address' has no prefix length."
  case $told_address in */[1-9] | */[12][0-9] | */3[0-2]) ;; *) return 1 ;; esac
  set -f
  set -- $told_dns
  set +f
  for one in "$@" ${told_gateway:+"$told_gateway"}; do
    why="'$one' is no address."
    is_address "$one" || return 1
  done
  why="'$told_search' is no domain."
  case $told_search in *[!A-Za-z0-9._-]*) return 1 ;; esac
  why="'$told_hostname' is no host name."
  case $told_hostname in *[!A-Za-z0-9-]* | -* | *-) return 1 ;; esac
  why="'$told_hostname' is longer than a host name can be."
  [ "${#told_hostname}" -le 63 ]
}

is_address() {
  case $1 in *[!0-9.]* | *.) return 1 ;; esac
  IFS=.
  set -- $1
  IFS=$plain_ifs
  [ $# = 4 ] || return 1
  for octet; do
    case $octet in [0-9] | [1-9][0-9] | 1[0-9][0-9] | 2[0-4][0-9] | 25[0-5]) ;; *) return 1 ;; esac
  done
}

# normal TEXT: sets $mac to the MAC in lower case with colons, whatever its spelling is. Fails if the text is no MAC.
normal() {
  mac=$1
  case $1 in
    *[!0-9A-Fa-f:.-]* | *[:.-] | *:*[.-]* | *-*[:.]* | *.*[:-]*) return 1 ;;
    *[:-]*) IFS=:- ;;
    ????.????.????) IFS=. ;;
    ????????????) ;;
    *) return 1 ;;
  esac
  set -- $1
  IFS=$plain_ifs
  [ $# = 6 ] || set -- $(pairs "$1${2-}${3-}")
  [ $# = 6 ] || return 1
  made=
  for byte; do
    case $byte in ? | ??) ;; *) return 1 ;; esac
    made=$made${made:+:}$(printf '%02x' "$((0x$byte))")
  done
  mac=$made
}

# pairs DIGITS: prints the digits in groups of two.
pairs() {
  rest=$1
  while [ "${#rest}" -ge 2 ]; do
    printf '%.2s ' "$rest"
    rest=${rest#??}
  done
}

# interface_of MAC: sets $interface to the NIC with this MAC. Fails if there is none.
interface_of() {
  for path in /sys/class/net/*; do
    interface=${path##*/}
    card "$path" && read -r found <"$path/address" && [ "$found" = "$1" ] && return
  done 2>/dev/null
  return 1
}

# use_told: what `load` sets, from the channel.
use_told() {
  mac=$told_mac address=${told_address%/*} length=${told_address#*/} gateway=$told_gateway dns=$told_dns
  search=$told_search source=$told_by
}

# defaults: prints the default routes as `ip` shows them, each with a space at its end.
defaults() {
  ip -4 route show 2>/dev/null | while read -r route; do
    case $route in default*) printf '%s \n' "$route" ;; esac
  done
}

# keep_defaults: lets undo set the default routes of the NIC again, which the kernel removes with its last address.
keep_defaults() {
  set -f
  IFS=$newline
  for route in $(defaults); do
    IFS=$plain_ifs
    case $route in *" dev $interface "*) later ip route replace ${route% linkdown } ;; esac
  done
  IFS=$plain_ifs
  set +f
}

# forget: removes the address that an earlier run gave the NIC, if the host says another one now.
forget() {
  { read -r old <"$state/address.$interface"; } 2>/dev/null || return 0
  if [ "$old" != "$address/$length" ] && has "$old"; then
    run ip addr del "$old" dev "$interface"
    later ip addr add "$old" brd + dev "$interface"
  fi
}

# remember: saves the addresses for `forget`, and what the host says for programs of the machine.
remember() {
  [ "$dry" = no ] || return 0
  each remember_address
  put "$state/identity" 600 "$(identity_lines)"
}

remember_address() { put "$state/address.$interface" 600 "$address/$length"; }

# identity_lines: prints what the host says, or else what follows from the MAC.
identity_lines() {
  if [ -n "$told" ]; then
    printf '%s\n' "$told"
    return
  fi
  first
  printf '%s\n' "mac=$mac" "address=$address/$length" ${gateway:+"gateway=$gateway"} ${dns:+"dns=$dns"} \
    ${search:+"search=$search"} ${hostname:+"hostname=$hostname"}
}
