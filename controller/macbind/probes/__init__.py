"""Questions to the network: ARP, ping and DHCP."""
