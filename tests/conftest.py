"""For every test: the programs under test can be interrupted."""

import signal

# A test run in the background is started with SIGINT ignored, and every program it starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
