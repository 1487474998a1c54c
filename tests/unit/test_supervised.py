"""Threads that take turns: pauses after failures, defects, and their end."""

import threading

from macbind.core.errors import DhcpdUnavailable
from macbind.engine.supervised import Supervised


def test_a_peers_failure_is_tried_again() -> None:
    """A turn that fails because of a peer is taken again, and told each time; the next success ends that."""
    done, troubles = threading.Event(), list[BaseException]()
    left = [DhcpdUnavailable("one"), DhcpdUnavailable("two")]

    def turn() -> None:
        if left:
            raise left.pop(0)
        done.set()

    thread = Supervised("it", turn, lambda _: None, every_s=60, on_trouble=troubles.append)
    thread.start()
    assert done.wait(60)
    thread.close()
    assert [str(error) for error in troubles] == ["one", "two"]


def test_a_defect_ends_the_thread_and_is_told() -> None:
    """Any other error is told once, what is to be done at the end is done, and no turn follows."""
    told, ended, turns = list[BaseException](), threading.Event(), list[int]()

    def turn() -> None:
        turns.append(1)
        raise ZeroDivisionError

    thread = Supervised("it", turn, told.append, at_end=ended.set)
    thread.start()
    assert ended.wait(60)
    thread.close()
    assert ([type(error) for error in told], len(turns)) == ([ZeroDivisionError], 1)


def test_closing_ends_a_pause_at_once() -> None:
    """Who is between two turns, or waits after a failure, does not wait to the end of that when it is closed."""
    for failure in (None, DhcpdUnavailable("gone")):
        begun = threading.Event()

        def turn(failure: DhcpdUnavailable | None = failure, begun: threading.Event = begun) -> None:
            begun.set()
            if failure is not None:
                raise failure

        thread = Supervised("it", turn, lambda _: None, every_s=3600)
        thread.start()
        assert begun.wait(60)
        thread.close()
        assert "it" not in {one.name for one in threading.enumerate()}
