"""Use cases and the HTTP API over them."""
