
# card PATH: whether this is a network card. Bridges, bonds, VLANs and macvtaps often have the MAC of the card below them.
card() {
  case ${1##*/} in -* | *[!A-Za-z0-9_.:-]*) return 1 ;; esac
  { read -r hardware <"$1/type" && [ "$hardware" = 1 ]; } 2>/dev/null || return 1 # Ethernet
  for sign in "$1/bridge" "$1/bonding" "$1/tun_flags" "$1/master" "$1"/lower_*; do
    # A card may have a twin below it, on Hyper-V for example. The card has a device.
    case $sign in */lower_*) [ ! -e "$1/device" ] || continue ;; esac
    [ ! -e "$sign" ] || return 1
  done
  ! grep -qsE '^DEVTYPE=(vlan|vxlan)' "$1/uevent" # kernels before 3.9 have no lower_*
}

# survey: sets $plan to the NICs that get an address, with spaces around each. udev may have to name the NICs first.
survey() {
  [ ! -S /run/udev/control ] || udevadm settle --timeout=30 >/dev/null 2>&1
  plan=' ' refused='' seen='' macs=' '
#:channels   identify
  for path in /sys/class/net/*; do
    interface=${path##*/}
    { read -r found <"$path/address"; } 2>/dev/null || continue
    case $macs in *" $found "*) continue ;; esac
    if [ -e "$path/master" ]; then
      seen="$seen $interface=$found (passed over: it is in a bridge or bond)"
    elif card "$path"; then
      seen="$seen $interface=$found"
      if decode "$found"; then
        plan="$plan$interface " macs="$macs$found "
      elif [ "$problem" = 4 ]; then
        refused="$refused $interface: $why"
      fi
    fi
  done
}

# each FUNCTION: calls the function for every NIC of the plan with $interface, $mac, $address, $length, $gateway, $dns,
# $search and $source.
each() {
  for interface in $plan; do
    load
    "$1"
  done
}

load() {
  read -r found <"/sys/class/net/$interface/address" || fail 1 "$interface is gone."
#:channels   [ "$found" != "$told_mac" ] || { use_told && return; }
  decode "$found" || fail 1 "$interface: $why"
  source="pool $pool"
}
