"""The truth: which address is held by whom, in SQLite or PostgreSQL."""
