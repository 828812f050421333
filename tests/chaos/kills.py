"""Kills: SIGKILL for one member, or for what it has started, without a word before."""

import random
import signal
from collections import Counter
from enum import StrEnum

from mayfly.drivers.keeper import descendants, send, started_at
from tests.chaos.members import Company
from tests.e2e.programs import Program, arguments_of

Process = tuple[int, int]
"""Its id, and when it was started."""


class Kill(StrEnum):
    """Who is killed."""

    PLANE = "the control plane"
    EXECUTOR = "an executor"
    RUNNER = "a runner and its job"
    KEEPER = "the keepers of an executor"
    EXECUTOR_AND_KEEPERS = "an executor and its keepers"
    MACHINE = "an executor and all below it"


_WEIGHTS = {
    Kill.PLANE: 2,
    Kill.EXECUTOR: 4,
    Kill.RUNNER: 2,
    Kill.KEEPER: 2,
    Kill.EXECUTOR_AND_KEEPERS: 2,
    Kill.MACHINE: 2,
}
"""One in seven for the control plane, as for each of six executors."""


class Killer:
    """Chooses by a seed, and keeps count."""

    def __init__(self, company: Company, random_: random.Random) -> None:
        self._company = company
        self._random = random_
        self.kills: Counter[Kill] = Counter()

    def strike(self) -> bool:
        """One kill; False when nobody can be killed like this at the moment."""
        (kill,) = self._random.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
        executors = self._company.executors
        members = self._random.sample(executors, len(executors))
        for member in [self._company.plane] if kill is Kill.PLANE else members:
            if member.program is None or not member.program.running:
                continue
            if victims := _victims(kill, member.program):
                self.kills[kill] += 1
                for pid, started in victims:
                    send(pid, started, signal.SIGKILL)
                return True
        return False


def _victims(kill: Kill, program: Program) -> list[Process]:
    program.children()  # which it remembers, so that a survivor is found
    itself = _running(program.pid)
    keepers = [one for one in descendants(program.pid) if "keeper.py" in arguments_of(one[0])]
    runners = [below for pid, _ in keepers for below in descendants(pid)]
    match kill:
        case Kill.PLANE | Kill.EXECUTOR:
            return itself
        case Kill.RUNNER:
            return runners
        case Kill.KEEPER:
            return keepers
        case Kill.EXECUTOR_AND_KEEPERS:
            return [*itself, *keepers]
        case Kill.MACHINE:
            return [*itself, *keepers, *runners]


def _running(pid: int) -> list[Process]:
    started = started_at(pid)
    return [] if started is None else [(pid, started)]
