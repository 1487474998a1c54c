
# The pools, for the MAC with these six bytes: name, MAC prefix, address, prefix length, gateway, DNS servers, DNS domain,
# whether the address is in the ranges, whether it is in the subnet, and other addresses that no machine may have.
pools() {
  n=$(($4 * 65536 + $5 * 256 + $6))
@TABLE@
}

# offer NAME PREFIX ADDRESS LENGTH GATEWAY DNS SEARCH RANGES SUBNET NEVER: takes the pool if the address is in its ranges,
# or in the second round in its subnet, where an admin may have reserved other addresses.
offer() {
  [ -z "$pool" ] || return 0
  case $mac in "$2":*) ;; *) return 0 ;; esac
  if [ "$round$8" = ranges0 ]; then
    return
  elif [ "$9" = 0 ]; then
    why=${why:-"$mac would be $3, which is not in the subnet of the pool '$1'."}
    return
  fi
  case " $5 ${10} " in
    *" $3 "*) why="$mac stands for $3, which no machine may have: it is the address of the network or of a gateway." ;;
    *) pool=$1 address=$3 length=$4 gateway=$5 dns=$6 search=$7 ;;
  esac
}

# decode MAC: sets $mac, $pool, $address, $length, $gateway, $dns and $search. If it fails, $why is a sentence and
# $problem the exit status.
decode() {
  mac=$1 pool='' why='' problem=3 hex='[0-9a-f][0-9a-f]'
#:channels   normal "$1"
  case $mac in
    00:00:00:00:00:00 | ?[13579bdf]:??:??:??:??:??) why="$mac is no MAC that a network card may have." ;;
    [0-9a-f][02468ace]:$hex:$hex:$hex:$hex:$hex) ;;
    *) why="'$1' is not a MAC in lower case with colons." ;;
  esac
  [ -z "$why" ] || return 1
  IFS=:
  set -- $mac
  IFS=$plain_ifs
  for round in ranges subnet; do
    pools $((0x$1)) $((0x$2)) $((0x$3)) $((0x$4)) $((0x$5)) $((0x$6))
    [ -z "$pool" ] || return 0
  done
  [ -z "$why" ] || problem=4
  why=${why:-"$mac does not belong to a pool: their MACs begin with @PREFIXES@."}
  return 1
}

# decode_all MAC...: prints what each MAC stands for. The script ends with the status of the first refusal.
decode_all() {
  worst=0
  for one; do
    if decode "$one"; then
      printf '%s/%s %s\n' "$address" "$length" "${gateway:--}"
    else
      [ "$worst" != 0 ] || worst=$problem
      say "$why"
      echo -
    fi
  done
  exit "$worst"
}
