"""Measurements: what macbind costs, each beside a baseline measured in the same run.

`python -m bench` (`make bench`) prints one row per claim. Machines differ and are shared, so a time alone means
nothing here: only the ratio of a row does, and its spread over the rounds says how far to trust it.
"""
