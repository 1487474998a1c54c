
clear_networkd() { drop_others /etc/systemd/network/05-macbind- .network; }

# The name counts, too: a bridge on the NIC has the same MAC.
write_networkd() {
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
Gateway=$gateway}${far:+
GatewayOnLink=yes}"
  [ -z "$gateway" ] || [ "$order" = 0 ] || text="$text
Metric=$order"
  put "/etc/systemd/network/05-macbind-$interface.network" 644 "$text"
}

# At boot networkd does not run yet.
tell_networkd() { ! running systemd-networkd || run networkctl reload; }
