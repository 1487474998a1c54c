"""macbind: one allocation for the IP and the MAC of a virtual machine, made real in ISC dhcpd."""

__version__ = "0.1.0"
