
# One file for all NICs. The names in it begin with 0: networkd takes the first file that matches a NIC, and the names of
# the image's own files come later.
clear_netplan() {
  netplan_text='# Written by mac2ip.
network:
  version: 2
  ethernets:'
  [ "$plan" != ' ' ] || drop /etc/netplan/90-macbind.yaml
}

write_netplan() {
  netplan_text="$netplan_text
    0macbind-$interface:
      match:
        macaddress: \"$mac\"
      dhcp4: false
      addresses: [\"$address/$length\"]${gateway:+
      routes:
        - to: default
          via: \"$gateway\"}${far:+
          on-link: true}"
  [ -z "$gateway" ] || [ "$order" = 0 ] || netplan_text="$netplan_text
          metric: $order"
  [ -n "$dns$search" ] || return 0
  servers=$(printf '%s, ' $dns)
  netplan_text="$netplan_text
      nameservers:${dns:+
        addresses: [${servers%, }]}${search:+
        search: [\"$search\"]}"
}

tell_netplan() {
  put /etc/netplan/90-macbind.yaml 600 "$netplan_text"
  ! command -v netplan >/dev/null 2>&1 || run netplan generate
  ! running systemd-networkd || run networkctl reload
}
