"""Faults: what goes wrong by chance, counted when it strikes."""

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random

from tests.simulation.journal import Journal
from tests.simulation.plans import Rates


class Faults:
    """One stream of chance for each fault, so that leaving one out disturbs the others little."""

    def __init__(self, seed: int, rates: Rates, journal: Journal) -> None:
        self.seed = seed
        self._rates = rates
        self._journal = journal
        self._dice: dict[str, Random] = {}
        self._aims: dict[str, Callable[..., bool]] = {}
        self._over = False
        self.struck: Counter[str] = Counter()

    def end(self) -> None:
        """Nothing goes wrong from now on."""
        self._over = True

    @property
    def over(self) -> bool:
        return self._over

    def strikes(self, name: str, *subjects: object) -> bool:
        """Whether it goes wrong this time, and for whom."""
        if self._over or not (self._by_aim(name, subjects) or self._by_chance(name)):
            return False
        self.note(name, *subjects)
        return True

    def aim(self, name: str, when: Callable[..., bool]) -> None:
        """From now on it goes wrong whenever `when` says so of its subjects."""
        self._aims[name] = when

    def planned(self, name: str) -> bool:
        """Whether this world has the fault at all."""
        return name in self._rates

    def note(self, name: str, *subjects: object) -> None:
        """It strikes now."""
        self.struck[name] += 1
        self._journal.say(f"FAULT {name}:", *subjects)

    def dice(self, name: str) -> Random:
        """The fault's own chance, for how long or how much."""
        if name not in self._dice:
            self._dice[name] = Random(f"{self.seed}:{name}")
        return self._dice[name]

    def _by_aim(self, name: str, subjects: tuple[object, ...]) -> bool:
        aim = self._aims.get(name)
        return aim is not None and aim(*subjects)

    def _by_chance(self, name: str) -> bool:
        rate = self._rates.get(name)
        return rate is not None and self.dice(name).random() < rate


async def moment(dice: Random, shortest: float, longest: float) -> None:
    """A while of virtual time."""
    await asyncio.sleep(dice.uniform(shortest, longest))
