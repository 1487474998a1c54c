"""The parts of the domain tracker: what was seen, who uses what, how renumberings end, what an admin is told."""
