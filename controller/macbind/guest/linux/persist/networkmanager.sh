
clear_networkmanager() { drop_others /etc/NetworkManager/system-connections/macbind- .nmconnection; }

# IPv6 addresses are made of the MAC, because macbind knows these; a distribution's default may differ.
write_networkmanager() {
  IFS=:
  set -- $mac
  IFS=$plain_ifs
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
  [ -z "$dns" ] || text="$text
dns=$(printf '%s;' $dns)"
  [ -z "$search" ] || text="$text
dns-search=$search;"
  [ "$order" = 0 ] || text="$text
route-metric=$((100 + order))" # the default is 100
  put "/etc/NetworkManager/system-connections/macbind-$interface.nmconnection" 600 "$text

[ipv6]
method=auto
addr-gen-mode=eui64
ip6-privacy=0"
}

tell_networkmanager() { ! running NetworkManager || each activate; }

# A connection that is up and has not changed is left alone: to activate it again would interrupt it.
activate() {
  if [ "$changed" = no ]; then
    case $(nmcli -g GENERAL.STATE connection show id "macbind-$interface" 2>/dev/null) in activated) return 0 ;; esac
  fi
  run nmcli connection load "/etc/NetworkManager/system-connections/macbind-$interface.nmconnection"
  run nmcli connection up id "macbind-$interface"
}

# comes: whether NetworkManager will start later and configure the NICs. It would not use our profile for a NIC that has
# its address already.
comes() { [ "$manager" = networkmanager ] && enabled NetworkManager.service && ! running NetworkManager; }

announce() { say "NetworkManager configures $interface when it starts."; }

# sets_dns: whether NetworkManager sets the DNS servers.
sets_dns() { [ "$manager" = networkmanager ] && enabled NetworkManager.service; }
