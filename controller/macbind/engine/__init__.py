"""What keeps DHCP servers and domains in step with the registry."""
