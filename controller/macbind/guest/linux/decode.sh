
# -- from MAC to address ------------------------------------------------------------------------------------------

# The pools: name, MAC prefix, subnet, its prefix length, gateway rule, DNS servers, DNS domain, ranges, and the
# addresses of the subnet that no machine may have.
pools() {
@TABLE@
}

# number ADDRESS: sets $number, which orders addresses and fits into 32 bits with a sign, as old shells have them.
# Fails on what is no address.
number() {
  case $1 in
    *[!0-9.]* | .* | *. | *..* | *.*.*.*.*) return 1 ;;
    *.*.*.*) ;;
    *) return 1 ;;
  esac
  IFS=.
  # shellcheck disable=SC2086
  set -- $1
  IFS=$plain_ifs
  for octet; do
    case $octet in
      [0-9] | [1-9][0-9] | 1[0-9][0-9] | 2[0-4][0-9] | 25[0-5]) ;;
      *) return 1 ;;
    esac
  done
  number=$((($1 - 128) * 16777216 + $2 * 65536 + $3 * 256 + $4))
}

# inside RANGES: whether $address lies in one of them, each FIRST-LAST.
inside() {
  number "$address" || return 1
  wanted=$number
  for range in $1; do
    number "${range%-*}"
    if [ "$number" -le "$wanted" ]; then
      number "${range#*-}"
      [ "$wanted" -gt "$number" ] || return 0
    fi
  done
  return 1
}

# gateway_of RULE: sets $gateway for $address; an x in the rule stands for the address's own octet.
gateway_of() {
  IFS=.
  # shellcheck disable=SC2086
  set -- $1 $address
  IFS=$plain_ifs
  gateway=
  [ $# -eq 8 ] || return 0
  for _ in 1 2 3 4; do
    octet=$1
    [ "$octet" != x ] || octet=$5
    gateway=$gateway${gateway:+.}$octet
    shift
  done
}

# offer NAME PREFIX SUBNET LENGTH RULE DNS SEARCH RANGES FORBIDDEN OTHERS: takes the pool if $mac stands for one of
# its addresses. In the first round ($round is ranges) that is what the pool hands out; in the second, any address of
# its subnet that is not forbidden, which an admin may have reserved by hand. A gateway by one of the rules OTHERS,
# which is its own gateway, is never one.
offer() {
  [ -z "$pool" ] || return 0
  case $mac in "$2":*) ;; *) return 0 ;; esac
  bytes=${mac#"$2":}
  high=
  case $bytes in *:*:*:*) ;; *) high=${3%%.*} ;; esac
  address_of "$bytes" "$high"
  if [ "$round" = ranges ]; then
    inside "$8" || return 0
  elif ! inside "$3"; then
    why=${why:-"$mac would be $address, which is not in the subnet of the pool '$1'."}
    return 0
  else
    for one in $9; do
      if [ "$one" = "$address" ]; then
        why="$mac stands for $address, which no machine may have: it is the network's or a gateway's."
        return 0
      fi
    done
  fi
  for one in ${10}; do
    gateway_of "$one"
    if [ "$address" = "$gateway" ]; then
      why="$mac stands for $address, which no machine may have: it is the network's or a gateway's."
      return 0
    fi
  done
  gateway_of "$5"
  if [ "$address" = "$gateway" ]; then
    why="$mac stands for $address, which is the gateway of its own part of the subnet."
    return 0
  fi
  pool=$1 length=$4 dns=$6 search=$7
}

# address_of BYTES HIGH: sets $address from hexadecimal bytes, after the octet HIGH if there are only three.
address_of() {
  high=$2
  IFS=:
  # shellcheck disable=SC2086
  set -- $1
  IFS=$plain_ifs
  address=$high
  for byte; do
    address=$address${address:+.}$((0x$byte))
  done
}

# normal TEXT: sets $mac to a MAC in lower case with colons. Fails on what is none.
normal() {
  case $1 in
    [0-9a-f][0-9a-f]:[0-9a-f][0-9a-f]:[0-9a-f][0-9a-f]:[0-9a-f][0-9a-f]:[0-9a-f][0-9a-f]:[0-9a-f][0-9a-f])
      mac=$1
      return 0
      ;;
    '' | *[!0-9A-Fa-f:.-]* | *[:.-] | [:.-]*) return 1 ;;
    *:*[.-]* | *[.-]*:* | *.*-* | *-*.*) return 1 ;;
    ????.????.????) text=$1 unit=4 ;;
    *.*) return 1 ;;
    *[:-]*) text=$1 unit=0 ;;
    ????????????) text=$1 unit=2 ;;
    *) return 1 ;;
  esac
  IFS=:.-
  # shellcheck disable=SC2086
  set -- $text
  IFS=$plain_ifs
  if [ "$unit" != 0 ]; then # dotted or bare: bytes of two digits
    digits=
    for group; do digits=$digits$group; done
    set --
    while [ -n "$digits" ]; do
      rest=${digits#??}
      set -- "$@" "${digits%"$rest"}"
      digits=$rest
    done
  fi
  [ $# -eq 6 ] || return 1
  mac=
  for byte; do
    case $byte in ?|??) ;; *) return 1 ;; esac
    mac=$mac${mac:+:}$(printf '%02x' "$((0x$byte))")
  done
}

# decode MAC: sets $mac $pool $address $length $gateway $dns $search. Otherwise it fails with the exit status
# that fits, and $why is a sentence.
decode() {
  pool='' why=''
  normal "$1" || {
    why="'$1' is not a MAC."
    return 3
  }
  case $mac in
    00:00:00:00:00:00 | ?[13579bdf]:*)
      why="$mac is no MAC that a network card may have."
      return 3
      ;;
  esac
  for round in ranges subnet; do
    pools
    [ -z "$pool" ] || return 0
  done
  [ -z "$why" ] || return 4
  why="$mac does not belong to a pool: their MACs begin with @PREFIXES@."
  return 3
}

# decode_all MAC...: prints what each stands for; returns the status of the first that stands for nothing.
decode_all() {
  worst=0
  for one; do
    if [ "$one" = - ]; then
      while read -r line || [ -n "$line" ]; do
        decode_one "$line"
      done
    else
      decode_one "$one"
    fi
  done
  return "$worst"
}

decode_one() {
  if decode "$1"; then
    printf '%s/%s %s\n' "$address" "$length" "${gateway:--}"
  else
    found=$?
    [ "$worst" != 0 ] || worst=$found
    say "$why"
    echo -
  fi
}
