"""Where names are written: a hosts file, and a name server. Both compare first, and write only what differs."""
