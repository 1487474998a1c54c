"""The service: start, listen, watch over itself, stop."""
