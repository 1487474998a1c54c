
# ifupdown also carries out the image's own stanzas for a NIC, so they become comments.
clear_ifupdown() {
  ifupdown_text='# Written by mac2ip.'
  for file in /etc/network/interfaces /etc/network/interfaces.d/*; do
    case $file in */macbind | *'*' | *.mac2ip) continue ;; esac
    [ ! -f "$file" ] || silence "$file"
  done
  # The file stays: /etc/network/interfaces may name it.
  [ "$plan" != ' ' ] || [ ! -e /etc/network/interfaces.d/macbind ] ||
    put /etc/network/interfaces.d/macbind 644 '# Written by mac2ip, which has no address for this machine.'
}

# silence FILE: makes comments of the IPv4 stanzas for NICs of the plan.
silence() {
  text='' quiet=no found=no
  while IFS= read -r line || [ -n "$line" ]; do
    words "$line"
    case $word in
      iface)
        quiet=no
        case $plan in *" $second "*) [ "$third" = inet6 ] || quiet=yes found=yes ;; esac
        ;;
      auto | allow-* | mapping | source | source-directory | rename | template | no-*) quiet=no ;;
    esac
    case $quiet$line in yes?*) line="# mac2ip: $line" ;; esac
    text=$text${text:+$newline}$line
  done <"$1"
  [ "$found" = no ] || put "$1" same "$text"
}

# words LINE: sets $word, $second and $third.
words() {
  set -f
  set -- $1
  set +f
  word=${1-} second=${2-} third=${3-}
}

# ifup adds addresses and does not replace them, so it first flushes what mac2ip has configured. It checks the MAC: a
# stanza is for a name, and in a copy of this machine that name is the name of another NIC.
write_ifupdown() {
  mask_of "$length"
  ifupdown_text="$ifupdown_text
auto $interface
iface $interface inet static
    pre-up grep -qix $mac /sys/class/net/\$IFACE/address
    pre-up ip -4 addr flush dev \$IFACE
    address $address
    netmask $mask${gateway:+
    gateway $gateway}"
  [ -z "$gateway" ] || [ "$order" = 0 ] || ifupdown_text="$ifupdown_text
    metric $order"
  ifupdown_text="$ifupdown_text${dns:+
    dns-nameservers $dns}${search:+
    dns-search $search}"
}

tell_ifupdown() {
  put /etc/network/interfaces.d/macbind 644 "$ifupdown_text"
  main=$(cat /etc/network/interfaces 2>/dev/null)
  case $main in
    *interfaces.d*) ;;
    *) put /etc/network/interfaces same "$main${main:+$newline}source /etc/network/interfaces.d/macbind" ;;
  esac
}
