"""What a machine is told about itself, other than by DHCP."""
