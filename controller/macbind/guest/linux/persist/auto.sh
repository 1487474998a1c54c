
# choose_manager: sets $manager to the network manager of this machine.
choose_manager() {
  first
  # If netplan writes for NetworkManager, our own profile goes before netplan's.
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
    fail 7 'No network manager was found on this machine. Make the script with another --persist, or without.'
  fi
}
