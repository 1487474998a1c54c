
# -- what the network manager finds at the next boot ---------------------------------------------------------------

# enabled SERVICE: whether systemd will start it, or has.
enabled() {
  command -v systemctl >/dev/null 2>&1 || return 1
  systemctl is-enabled --quiet "$1" 2>/dev/null || running "$1"
}

# choose_manager: sets $manager from --persist; ends the script if it is not there.
choose_manager() {
  manager=$persist
  [ "$manager" = auto ] || return 0
  first
  # Where netplan writes for NetworkManager, that takes our own profile before netplan's.
  if command -v netplan >/dev/null 2>&1 && [ -n "$(ls /etc/netplan/*.yaml 2>/dev/null)" ] &&
    ! grep -qsE '^ *renderer: *.?NetworkManager' /etc/netplan/*.yaml; then
    manager=netplan
  elif grep -qsE "^ *iface +$interface( |\$)" /etc/network/interfaces /etc/network/interfaces.d/*; then
    manager=ifupdown
  elif enabled NetworkManager.service; then
    manager=networkmanager
  elif enabled systemd-networkd.service; then
    manager=networkd
  elif [ -e /etc/network/interfaces ] && command -v ifup >/dev/null 2>&1; then
    manager=ifupdown
  elif [ -d /etc/sysconfig/network-scripts ]; then
    manager=ifcfg
  else
    fail 7 'No network manager was found on this machine. Name one with --persist, or leave it out.'
  fi
}

# comes: whether NetworkManager will start and then configure what was written for it. A card that has its address
# already it would take for somebody else's, and leave our profile unused.
comes() { [ "$manager" = networkmanager ] && enabled NetworkManager.service && ! running NetworkManager; }

running() { command -v systemctl >/dev/null 2>&1 && systemctl is-active --quiet "$1" 2>/dev/null; }

# persist_all: writes the manager's configuration for the whole plan, after what was written for another machine's
# interfaces is gone: this image may be a copy.
persist_all() {
  [ "$manager" != none ] || return 0
  later reread # the files as they were
  clear_for_"$manager"
  order=0 changed=no
  each persist
  [ -z "$hostname" ] || keep_name
  tell_"$manager"
}

persist() {
  far=
  [ -z "$gateway" ] || ! outside "$gateway" "$address" "$length" || far=yes
  write_for_"$manager"
  order=$((order + 100))
}

# withdraw: removes what an earlier run wrote for any manager. At this boot or the next, it would give the machine
# the address that it must not have now.
withdraw() {
  plan=''
  clear_for_networkd
  clear_for_networkmanager
  clear_for_ifcfg
  drop /etc/netplan/90-macbind.yaml
  if [ -e /etc/network/interfaces.d/macbind ]; then # it stays: to some, a file that is to be read must be there
    put /etc/network/interfaces.d/macbind 644 '# Written by mac2ip, which has no address for this machine.'
  fi
  [ -z "$begun" ] || reread
  settled
}

# reread: lets every manager look at its files again.
reread() {
  if command -v netplan >/dev/null 2>&1; then attempt netplan generate; fi
  ! running systemd-networkd || attempt networkctl reload
  ! running NetworkManager || attempt nmcli connection reload
}

# listed PREFIX SEPARATOR WORD...: the words, each after PREFIX, with SEPARATOR between.
listed() {
  listing='' before=$1 between=$2
  shift 2
  for one; do listing=$listing${listing:+$between}$before$one; done
  printf '%s' "$listing"
}

# clear_others GLOB SUFFIX: removes files of ours that are for no interface of the plan.
clear_others() {
  for file in "$1"*"$2"; do
    [ -e "$file" ] || continue
    owner=${file#"$1"}
    case $newline$plan in
      *"$newline${owner%"$2"}|"*) ;;
      *) drop "$file" ;;
    esac
  done
}

clear_for_networkd() { clear_others /etc/systemd/network/05-macbind- .network; }

# By name as well: what lies on the card, such as a bridge, has the same MAC.
write_for_networkd() {
  text="# Written by mac2ip.
[Match]
MACAddress=$mac
Name=$interface

[Network]
DHCP=no
Address=$address/$length${dns:+
DNS=$dns}${search:+
Domains=$search}${gateway:+

[Route]
Gateway=$gateway}"
  [ -z "$far" ] || text="$text
GatewayOnLink=yes"
  [ -z "$gateway" ] || [ "$order" = 0 ] || text="$text
Metric=$order"
  put "/etc/systemd/network/05-macbind-$interface.network" 644 "$text"
}

# A manager that runs is told, so that it does not go on with what it read before. At boot none runs yet.
tell_networkd() { ! running systemd-networkd || run networkctl reload; }

clear_for_networkmanager() { clear_others /etc/NetworkManager/system-connections/macbind- .nmconnection; }

write_for_networkmanager() {
  IFS=:
  # shellcheck disable=SC2086
  set -- $mac
  IFS=$plain_ifs
  # Its own default for the metric is 100, which the first interface keeps.
  text="# Written by mac2ip.
[connection]
id=macbind-$interface
uuid=6d616362-696e-4d41-8000-$1$2$3$4$5$6
type=ethernet
autoconnect-priority=100

[ethernet]
mac-address=$mac

[ipv4]
method=manual
address1=$address/$length${gateway:+,$gateway}"
  # shellcheck disable=SC2086
  [ -z "$dns" ] || text="$text
dns=$(listed '' ';' $dns);"
  [ -z "$search" ] || text="$text
dns-search=$search;"
  [ "$order" = 0 ] || text="$text
route-metric=$((100 + order))"
  # IPv6 addresses made of the MAC are known to macbind; the distribution's default may be others.
  put "/etc/NetworkManager/system-connections/macbind-$interface.nmconnection" 600 "$text

[ipv6]
method=auto
addr-gen-mode=eui64
ip6-privacy=0"
}

tell_networkmanager() {
  running NetworkManager || return 0
  each activate
}

activate() {
  if [ "$changed" = no ]; then # To bring it up again would interrupt it.
    case $(nmcli -g GENERAL.STATE connection show id "macbind-$interface" 2>/dev/null) in activated) return 0 ;; esac
  fi
  run nmcli connection load "/etc/NetworkManager/system-connections/macbind-$interface.nmconnection"
  run nmcli connection up id "macbind-$interface"
}

# One file for all interfaces. Its names begin with a digit: networkd takes the first file that matches a card, and
# what the image brought along, such as cloud-init's, comes after.
clear_for_netplan() {
  netplan_text='# Written by mac2ip.
network:
  version: 2
  ethernets:'
}

write_for_netplan() {
  netplan_text="$netplan_text
    0macbind-$interface:
      match:
        macaddress: \"$mac\"
      dhcp4: false
      addresses: [\"$address/$length\"]"
  if [ -n "$gateway" ]; then
    netplan_text="$netplan_text
      routes:
        - to: default
          via: \"$gateway\""
    [ -z "$far" ] || netplan_text="$netplan_text
          on-link: true"
    [ "$order" = 0 ] || netplan_text="$netplan_text
          metric: $order"
  fi
  [ -n "$dns$search" ] || return 0
  netplan_text="$netplan_text
      nameservers:"
  # shellcheck disable=SC2086
  [ -z "$dns" ] || netplan_text="$netplan_text
        addresses: [$(listed '' ', ' $dns)]"
  [ -z "$search" ] || netplan_text="$netplan_text
        search: [\"$search\"]"
}

tell_netplan() {
  put /etc/netplan/90-macbind.yaml 600 "$netplan_text"
  ! command -v netplan >/dev/null 2>&1 || run netplan generate
  tell_networkd
}

# Stanzas of the image for the same interface would be carried out as well, so they become comments.
clear_for_ifupdown() {
  ifupdown_text='# Written by mac2ip.'
  for file in /etc/network/interfaces /etc/network/interfaces.d/*; do
    case $file in */macbind | *'*' | *.mac2ip) continue ;; esac
    [ ! -f "$file" ] || silence "$file"
  done
}

# silence FILE: makes comments of its IPv4 stanzas for interfaces of the plan.
silence() {
  text='' quiet=no found=no
  while IFS= read -r line || [ -n "$line" ]; do
    read_words "$line"
    case $word in
      iface)
        quiet=no
        case $newline$plan in
          *"$newline$second|"*) [ "$third" = inet6 ] || quiet=yes found=yes ;;
        esac
        ;;
      auto | allow-* | mapping | source | source-directory | rename | template | no-*) quiet=no ;;
    esac
    case $quiet$line in yes?*) line="# mac2ip: $line" ;; esac
    text=$text${text:+$newline}$line
  done <"$1"
  [ "$found" = no ] || put "$1" same "$text"
}

# mask_of LENGTH: sets $mask.
mask_of() {
  mask='' left=$1
  for _ in 1 2 3 4; do
    octet=$((left >= 8 ? 255 : 256 - (1 << (8 - left))))
    mask=$mask${mask:+.}$octet left=$((left >= 8 ? left - 8 : 0))
  done
}

# read_words LINE: sets $word, $second and $third.
read_words() {
  set -f
  # shellcheck disable=SC2086
  set -- $1
  set +f
  word=${1:-} second=${2:-} third=${3:-}
}

# What mac2ip configured at run time would be in the way of ifup, which adds and does not replace. And a stanza is for
# the name of a card: in a copy of this image, that card is another machine's.
write_for_ifupdown() {
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

clear_for_ifcfg() {
  for file in /etc/sysconfig/network-scripts/ifcfg-*; do
    ! grep -qs '^# Written by mac2ip' "$file" || case $newline$plan in
      *"$newline${file##*/ifcfg-}|"*) ;;
      *) drop "$file" ;;
    esac
  done
}

write_for_ifcfg() {
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
  number=0
  for one in $dns; do
    number=$((number + 1))
    text="$text
DNS$number=$one"
  done
  put "/etc/sysconfig/network-scripts/ifcfg-$interface" 644 "$text${search:+
DOMAIN=$search}"
}

tell_ifcfg() { ! running NetworkManager || run nmcli connection reload; }

# keep_name: the name for the next boots; Debian's line in /etc/hosts and Red Hat's old file go with it.
keep_name() {
  put /etc/hostname same "$hostname"
  exchange /etc/hosts '127.0.1.1[[:space:]]*' "127.0.1.1	$hostname"
  exchange /etc/sysconfig/network 'HOSTNAME=*' "HOSTNAME=$hostname"
}

# exchange FILE PATTERN LINE: puts the line where one of the pattern is.
exchange() {
  [ -f "$1" ] || return 0
  text='' found=no
  while IFS= read -r line || [ -n "$line" ]; do
    # shellcheck disable=SC2254
    case $line in $2) line=$3 found=yes ;; esac
    text=$text${text:+$newline}$line
  done <"$1"
  [ "$found" = no ] || put "$1" same "$text"
}
