"""The gate between those who read the registry and a change of its configuration."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from macbind.core.errors import RegistryUnavailable
from macbind.registry.gate import Gate


def test_closing_waits_for_those_inside_and_keeps_others_out() -> None:
    """Many are inside at a time; who closes waits for all of them, and who comes meanwhile waits for the opening."""
    gate, story = Gate(), list[str]()
    closed, opened = threading.Event(), threading.Event()

    def close() -> None:
        with gate.closed(60):
            story.append("closed")
            closed.set()
            assert opened.wait(60)
            story.append("open")

    def enter() -> None:
        with gate.passing():
            story.append("in")

    with ThreadPoolExecutor(2) as threads:
        with gate.passing(), gate.passing():
            closing = threads.submit(close)
            story.append("leaving")
        assert closed.wait(60)
        entering = threads.submit(enter)
        opened.set()
        closing.result(60)
        entering.result(60)
    assert story == ["leaving", "closed", "open", "in"]


def test_who_does_not_leave_keeps_the_gate_open() -> None:
    """When somebody stays too long the change is given up, and the gate is as before."""
    gate = Gate()
    with gate.passing():
        with pytest.raises(RegistryUnavailable, match="busy with a question"), gate.closed(0.01):
            raise AssertionError
        with ThreadPoolExecutor(1) as threads:
            threads.submit(lambda: gate.passing().__enter__()).result(60)
