"""A page of memory that harness and workers share: what phase it is, and whether a fault touches dhcpd."""

import mmap
import os
import struct
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

_NUMBER = struct.Struct("@Q")  # native, so that nobody reads a half of one
_TURN, _EPOCH, _STARTS, _TROUBLES, _RESETS, _AIR, _ATTACKED, _FIRST_WORKER = range(8)


class Phase(IntEnum):
    """What workers do."""

    REST = 0
    WORK = 1
    END = 2


class Turn(NamedTuple):
    """What workers do in which round."""

    phase: Phase
    round: int


class Control:
    """The page. Each number in it has one writer: the harness, or the worker whose it is."""

    def __init__(self, path: Path) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.truncate(fd, mmap.PAGESIZE)
        self._page = mmap.mmap(fd, mmap.PAGESIZE)
        os.close(fd)
        self._present = 0

    def _get(self, index: int) -> int:
        return int(_NUMBER.unpack_from(self._page, index * _NUMBER.size)[0])

    def _set(self, index: int, value: int) -> None:
        _NUMBER.pack_into(self._page, index * _NUMBER.size, value)

    @property
    def turn(self) -> Turn:
        """What workers should do, and in which round: who rests, rests after the round in which it was told to."""
        number, phase = divmod(self._get(_TURN), len(Phase))
        return Turn(Phase(phase), number)

    @property
    def round(self) -> int:
        """The number of the present round."""
        return self.turn.round

    def begin(self, phase: Phase, number: int) -> None:
        """Tells workers what to do."""
        self._set(_TURN, number * len(Phase) + phase)

    @property
    def attacked(self) -> bool:
        """Whether attackers are at work in this round."""
        return bool(self._get(_ATTACKED))

    @attacked.setter
    def attacked(self, value: bool) -> None:
        self._set(_ATTACKED, int(value))

    @property
    def epoch(self) -> int:
        """Counts what was done to dhcpd; odd while something is being done to it."""
        return self._get(_EPOCH)

    def touch(self, *, begins: bool) -> None:
        """A fault that touches dhcpd begins or is over."""
        if begins == (self.epoch % 2 == 0):
            self._set(_EPOCH, self.epoch + 1)

    @property
    def troubles(self) -> int:
        """Counts what was done to macbind's registry and hypervisor; odd while something is being done to them."""
        return self._get(_TROUBLES)

    def trouble(self, *, begins: bool) -> None:
        """A fault that touches them begins or is over; there may be several at a time."""
        self._present += 1 if begins else -1
        self._set(_TROUBLES, (self.troubles | 1) + 1 + bool(self._present))

    @property
    def resets(self) -> int:
        """How often everything was given back, so that the workers begin anew."""
        return self._get(_RESETS)

    def reset(self) -> None:
        """Everything was given back."""
        self._set(_RESETS, self.resets + 1)

    @property
    def air(self) -> int:
        """Counts how often another DHCP server came or went; odd while one is there."""
        return self._get(_AIR)

    def other_server(self, *, comes: bool) -> None:
        """Another DHCP server is about to come, or has gone."""
        if comes == (self.air % 2 == 0):
            self._set(_AIR, self.air + 1)

    @property
    def starts(self) -> int:
        """How often macbind was started: a client asks again by itself when a connection broke."""
        return self._get(_STARTS)

    def starting(self) -> None:
        """macbind is about to be started."""
        self._set(_STARTS, self.starts + 1)

    def rests(self, worker: int, number: int) -> None:
        """A worker says that it rests after a round."""
        self._set(_FIRST_WORKER + worker, number)

    def resting(self, worker: int) -> int:
        """The last round after which a worker rested."""
        return self._get(_FIRST_WORKER + worker)


class Arm:
    """A line of memory that harness and daemon share: the step at which the daemon ends itself."""

    _SIZE = 128

    def __init__(self, path: Path) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.truncate(fd, mmap.PAGESIZE)
        self._page = mmap.mmap(fd, mmap.PAGESIZE)
        os.close(fd)

    @property
    def step(self) -> str:
        """The armed step; empty if none is."""
        return self._page[: self._SIZE].rstrip(b"\0").decode()

    @step.setter
    def step(self, name: str) -> None:
        self._page[: self._SIZE] = name.encode().ljust(self._SIZE, b"\0")
