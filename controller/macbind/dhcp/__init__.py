"""DHCP servers: what macbind asks of one (:mod:`~macbind.dhcp.port`), and the engines that answer."""
