
clear_ifcfg() {
  for file in /etc/sysconfig/network-scripts/ifcfg-*; do
    ! grep -qs '^# Written by mac2ip' "$file" || case $plan in
      *" ${file##*/ifcfg-} "*) ;;
      *) drop "$file" ;;
    esac
  done
}

write_ifcfg() {
  mask_of "$length"
  text="# Written by mac2ip.
DEVICE=$interface
HWADDR=$mac
TYPE=Ethernet
ONBOOT=yes
BOOTPROTO=none
IPADDR=$address
PREFIX=$length
NETMASK=$mask${gateway:+
GATEWAY=$gateway}"
  [ "$order" = 0 ] || text="$text
DEFROUTE=no"
  count=0
  for one in $dns; do
    count=$((count + 1))
    text="$text
DNS$count=$one"
  done
  put "/etc/sysconfig/network-scripts/ifcfg-$interface" 644 "$text${search:+
DOMAIN=$search}"
}

tell_ifcfg() { ! running NetworkManager || run nmcli connection reload; }
