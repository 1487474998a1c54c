"""Reads lists of machines that other programs have: dhcpd.conf, libvirt, Kea, tables of text, and our own export."""
