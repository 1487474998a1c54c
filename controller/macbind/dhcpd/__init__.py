"""ISC dhcpd: its configuration, its lease file and its OMAPI port."""
