"""ISC dhcpd: OMAPI, configuration, lease file and log."""
