"""Keeps names as the registry says: those of a hosts file, and those of a name server."""
