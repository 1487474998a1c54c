"""What everything else is about: pure values and decisions, without socket, clock, thread, file or log."""
