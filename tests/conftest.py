"""For every test: the programs under test can be interrupted, and a slow machine is no failure."""

import signal

from hypothesis import settings

# A test run in the background is started with SIGINT ignored, and every program it starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("macbind", deadline=None)
settings.load_profile("macbind")
