"""Everything a control plane needs, looked at; what depends on a failure is not tried."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path

import msgspec

from mayfly.backends import OpenBus
from mayfly.cli.backends import backend
from mayfly.cli.settings import IntakeKind, Settings
from mayfly.cli.surprises import surprises
from mayfly.database import Schema, inspect
from mayfly.github import addresses
from mayfly.github.app import open_github
from mayfly.github.judgements import Needs
from mayfly.model.errors import MayflyError
from mayfly.model.findings import Finding, failed, good, unchecked, warning, wrong
from mayfly.model.pools import PoolScope
from mayfly.ports import Clock, OperableBus
from mayfly.store import examinations

_LONGEST = 25.0
"""Seconds for each of the parts, which are looked at side by side."""
_BUS_SECONDS = 10.0
_CALL_SECONDS, _CONNECT_SECONDS = 7.0, 4.0
_MOST_DEAD = 100
_IN_DATABASE = "sql"
"""The backend of store and bus that opens a database, which would migrate it."""


async def examine(settings: Settings, path: Path, clock: Clock) -> list[Finding]:
    """Every finding, in the order a person puts things right. Nothing is changed."""
    parts = await asyncio.gather(
        _within(_LONGEST, "store", _kept(settings, clock)),
        _within(_LONGEST, "GitHub", _github(settings, clock)),
    )
    return [*_settings(settings, path), *(finding for part in parts for finding in part)]


async def examine_bus(
    opening: AbstractAsyncContextManager[OperableBus], subjects: Sequence[str]
) -> list[Finding]:
    """Whether it opens with all that its subjects need there, and what lies in it."""
    try:
        async with asyncio.timeout(_BUS_SECONDS), opening as bus:
            return [finding for one in subjects for finding in await _lying(bus, one)]
    except TimeoutError:
        return [wrong("bus", f"it does not answer within {_BUS_SECONDS:.0f} s", "see that it runs")]
    except MayflyError as error:
        return [failed("bus", error)]


async def _lying(bus: OperableBus, pool: str) -> list[Finding]:
    found = [good("bus", f"pool {pool}: {await bus.depth(pool)} message(s) wait")]
    if dead := len(await bus.dead(pool, _MOST_DEAD)):
        least = "at least " if dead == _MOST_DEAD else ""
        remedy = "look at them with `mayfly bus dead list`"
        found.append(warning("bus", f"pool {pool}: {least}{dead} message(s) are dead", remedy))
    return found


def needs_of(settings: Settings) -> Needs:
    """What the pools and the intake ask of the App."""
    scopes = {pool.scope for pool in settings.pools}
    permissions = ["metadata=read", addresses.ACTIONS]
    if PoolScope.REPOSITORY in scopes:
        permissions.append(addresses.REPOSITORY_RUNNERS)
    if PoolScope.ORGANIZATION in scopes:
        permissions.append(addresses.ORGANIZATION_RUNNERS)
    return Needs(permissions, settings.file.github.intake is not IntakeKind.PULL)


def _settings(settings: Settings, path: Path) -> Iterator[Finding]:
    names = ", ".join(pool.name for pool in settings.pools)
    rules = f"{len(settings.rules)} declared access rule(s)"
    yield good("settings", f"{path} is good: pools {names}; {rules}")
    for surprise in surprises(settings):
        found, _, remedy = surprise.partition("; ")
        yield warning("settings", found, remedy or None)


async def _kept(settings: Settings, clock: Clock) -> AsyncIterator[Finding]:
    """The store, and the bus, which may live in the same database."""
    kind = settings.file.store.backend
    if kind == _IN_DATABASE:
        turn = timedelta(seconds=settings.file.deadlines.turn_seconds)
        url = settings.store_url.reveal()
        async for finding in examinations.examine(url, clock.now(), turn):
            yield finding
    else:
        yield unchecked("store", f"nobody but `mayfly serve` can look into the backend {kind}")
    for finding in await _bus(settings, clock):
        yield finding


async def _bus(settings: Settings, clock: Clock) -> list[Finding]:
    kind, url = settings.file.bus.backend, settings.bus_url.reveal()
    if kind == _IN_DATABASE:
        try:
            state = await inspect(url)
        except MayflyError as error:
            return [failed("bus", error)]
        if state.schema is not Schema.CURRENT:
            return [unchecked("bus", "its database needs this version's schema")]
    open_bus: OpenBus = backend("buses", kind).open_bus
    subjects = settings.subjects
    return await examine_bus(open_bus(url, clock, subjects, declares=False), subjects)


async def _github(settings: Settings, clock: Clock) -> AsyncIterator[Finding]:
    patient = msgspec.structs.replace(
        settings.github,
        connect_seconds=_CONNECT_SECONDS,
        read_seconds=_CALL_SECONDS,
        call_seconds=_CALL_SECONDS,
    )
    async with open_github(patient, clock) as github:
        async for finding in github.examination(needs_of(settings)).findings():
            yield finding


async def _within(seconds: float, check: str, findings: AsyncIterator[Finding]) -> list[Finding]:
    found: list[Finding] = []
    try:
        async with asyncio.timeout(seconds):
            async for finding in findings:
                found.append(finding)  # noqa: PERF401 - what was found before the end is kept
    except TimeoutError:
        found.append(wrong(check, f"the rest took more than {seconds:.0f} s", "try again"))
    return found
