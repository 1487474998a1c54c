"""Measurements: what macbind costs, each beside a baseline measured in the same run.

`python -m bench` (`make bench`) prints one row per claim. Machines differ and are shared, so a time alone means
little here: the rounds of ours and of the baseline are interleaved, each round is judged by itself, and the spread
over the rounds says how far to trust the verdict. One module measures one group of rows; `rows` has the arithmetic,
`report` the table, `sites` the servers, and everything that is started is stopped by a context manager.
"""
