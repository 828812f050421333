"""Executors: which ones there are, whether they serve, and what an operator told them."""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

import msgspec

from mayfly.model.protocol import Duty
from mayfly.model.runners import Claim

MOST_UNPREPARED = 3
"""Prepares that fail in a row before a machine is out of service until an operator returns it."""


class Executor(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one machine of a pool. `heard_at` is in ledger seconds."""

    pool: str
    machine: str
    boot: str = ""
    """The run of the executor that spoke last; empty: it has said goodbye, or never spoke."""
    heard_at: float = 0.0
    seen_at: datetime
    """When that was, for people."""
    ending: bool = False
    """Its own host told it to end, so it takes no claim any more."""
    dismissed: str = ""
    """The run of the executor that is to end; a later one serves."""
    unprepared: int = 0
    """Prepares that failed in a row."""
    reason: str = ""
    """Why it is out of service, whichever run of it; empty: it is in service."""

    @property
    def broken(self) -> bool:
        """Out of service because it could not prepare, and not by an operator's word."""
        return bool(self.reason) and self.unprepared >= MOST_UNPREPARED

    @property
    def is_told(self) -> bool:
        """Whether some run of it shall not serve."""
        return bool(self.reason or self.dismissed)

    def duty(self, boot: str) -> Duty:
        """What this run of the executor shall do."""
        if boot and boot == self.dismissed:
            return Duty.END
        return Duty.REST if self.reason else Duty.SERVE


class Activity(StrEnum):
    """What an executor does."""

    IDLE = "idle"
    BUSY = "busy"
    """It has a live claim."""
    ABSENT = "absent"
    """It has said goodbye, or nothing for `silent_seconds`."""


class Service(StrEnum):
    """Whether a machine may have claims."""

    IN = "in service"
    DRAINING = "draining"
    """It may have no other claim, and still works on one."""
    OUT = "out of service"
    ENDING = "ending"
    """It takes no claim any more, and is about to exit."""


class Standing(NamedTuple):
    """An executor, its live claim, and whether it speaks."""

    executor: Executor
    claim: Claim | None
    absent: bool

    @property
    def activity(self) -> Activity:
        """A claim counts for more than silence, which has deadlines of its own."""
        if self.claim is not None:
            return Activity.BUSY
        return Activity.ABSENT if self.absent else Activity.IDLE

    @property
    def service(self) -> Service:
        """Whether it may have claims, or what becomes of it."""
        told = self.executor.duty(self.executor.boot)
        if told is Duty.SERVE and not self.executor.ending:
            return Service.IN
        if self.claim is not None:
            return Service.DRAINING
        return Service.OUT if told is Duty.REST else Service.ENDING

    @property
    def serves(self) -> bool:
        """Whether it works for its pool, or would if there were something to do."""
        there = self.activity is not Activity.ABSENT
        return there and self.service is Service.IN


class Command(StrEnum):
    """What an operator tells executors."""

    DRAIN = "drain"
    """Finish the job, take no other, and stay."""
    SHUTDOWN = "shutdown"
    """The same, and then exit with 42."""
    RETURN = "return"
    """Serve again."""


class Choice(NamedTuple):
    """Which executors: those of a machine, all, or any one of a pool that fits the command."""

    machine: str | None
    """As the ledger knows it, or the host with all of its slots."""
    pool: str | None
    everything: bool = False

    def covers(self, executor: Executor) -> bool:
        """Whether it is one of them, the pool's any one included."""
        if self.pool is not None and executor.pool != self.pool:
            return False
        if self.machine is None:
            return True
        return executor.machine == self.machine or executor.machine.startswith(f"{self.machine}/")
