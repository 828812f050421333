"""Executors: they say that they are there, and hear what an operator wants of them."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from mayfly.engine.declined import Declined
from mayfly.engine.news import News
from mayfly.model.deadlines import Deadlines
from mayfly.model.errors import NotFound
from mayfly.model.executors import Choice, Command, Executor, Standing
from mayfly.model.protocol import Attended, AttendOrder, Duty
from mayfly.ports import Ledger

LOOK_EVERY = timedelta(seconds=1)
"""How soon an executor hears an order that was given at another control plane, too: one small
read a second for all that wait, and none where nobody does."""
_NAMED = 5
"""Executors a sentence names at most."""


class Executors:
    """The long polls of executors, and the orders of operators."""

    def __init__(self, ledger: Ledger, news: News, deadlines: Deadlines) -> None:
        self._ledger = ledger
        self._news = news
        self._longest = timedelta(seconds=deadlines.heartbeat_seconds)
        self._looking = asyncio.Lock()
        self._looked_at = -LOOK_EVERY.total_seconds()
        self._told: dict[tuple[str, str], Executor] = {}

    async def attend(self, pool: str, order: AttendOrder, wait: timedelta) -> Attended:
        """What the executor shall do; when that is what it does already, after `wait`.

        At most as long as between two heartbeats, because who says nothing is absent.
        """
        wait = min(wait, self._longest)
        loop = asyncio.get_running_loop()
        until = loop.time() + wait.total_seconds()
        executor: Executor | None = await self._ledger.attend(pool, order)
        while not order.gone and _duty(executor, order.boot) is order.duty:
            left = until - loop.time()
            if left <= 0:
                break
            await asyncio.sleep(min(LOOK_EVERY.total_seconds(), left))
            executor = await self._look(pool, order.machine)
        return Attended(
            duty=_duty(executor, order.boot),
            reason=executor.reason if executor else "",
            waited_seconds=wait.total_seconds(),
        )

    async def standings(self, pool: str | None = None) -> list[Standing]:
        """Every executor that is known, by pool and machine."""
        return await self._ledger.executors(pool)

    async def command(
        self, told: Command, choice: Choice, who: str, reason: str | None
    ) -> list[Standing] | Declined:
        """Tell executors; which, and of all maybe none. NotFound: no such machine is known."""
        why = f"drained by {who}" + (f": {reason}" if reason else "")
        chosen = await self._ledger.command(told, choice, why)
        if not (chosen or choice.everything):
            return await self._nobody(told, choice)
        for standing in chosen:
            self._say(told, standing.executor, who)
        return chosen

    async def _look(self, pool: str, machine: str) -> Executor | None:
        """What it was told at most a second ago, if anything; one that waits reads for all."""
        async with self._looking:
            now = asyncio.get_running_loop().time()
            if now - self._looked_at >= LOOK_EVERY.total_seconds():
                told = await self._ledger.told()
                self._looked_at = asyncio.get_running_loop().time()
                self._told = {(one.pool, one.machine): one for one in told}
        return self._told.get((pool, machine))

    async def _nobody(self, told: Command, choice: Choice) -> Declined:
        known = await self._ledger.executors(choice.pool)
        where = f" of pool {choice.pool}" if choice.pool else ""
        if choice.machine is not None:
            fitting = [one for one in known if choice.covers(one.executor)]
            if not fitting:
                raise NotFound(
                    f"no executor{where} is on machine {choice.machine!r}; known: {_names(known)}"
                )
            return Declined(f"no process runs on {_names(fitting)}, so none can be shut down")
        if not known:
            return Declined(f"no executor{where} is known; start one with `mayfly executor`")
        if told is Command.RETURN:
            return Declined(f"every executor{where} is in service: {_names(known)}")
        return Declined(f"no executor{where} is idle and in service: {_names(known)}")

    def _say(self, told: Command, executor: Executor, who: str) -> None:
        news, where = self._news, {"pool": executor.pool, "machine": executor.machine}
        match told:
            case Command.DRAIN:
                news.publish("executor.drained", who=who, **where, reason=executor.reason)
            case Command.SHUTDOWN:
                news.publish("executor.dismissed", who=who, **where)
            case Command.RETURN:
                news.publish("executor.returned", who=who, **where)


def _duty(executor: Executor | None, boot: str) -> Duty:
    return Duty.SERVE if executor is None else executor.duty(boot)


def _names(standings: Sequence[Standing]) -> str:
    shown = [f"{one.executor.machine} ({one.activity}, {one.service})" for one in standings]
    more = len(shown) - _NAMED
    return ", ".join(shown[:_NAMED]) + (f" and {more} more" if more > 0 else "") or "none"
