"""A laboratory for DHCP: real namespaces, a real dhcpd, real clients, and clients made of packets.

- `labkit.net`      the network: `Lab`, `Port`
- `labkit.dhcpd`    the server: `Dhcpd`
- `labkit.omshell`  the judge: what dhcpd itself says it knows
- `labkit.dhcp`     clients made of packets: `DhcpClient`, `expect_silence`
- `labkit.clients`  the clients of real machines: `udhcpc`, `dhclient`, `dhcpcd`
- `labkit.wait`     waiting for a condition: `until`

`python -m labkit` builds a lab to play with. It needs root, and touches nothing outside of its own
namespaces.
"""
