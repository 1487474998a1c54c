"""The Python API for cores."""
