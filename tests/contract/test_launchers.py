"""What every launcher promises, run over the entry points `mayfly.launchers`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from mayfly.model.errors import Transient
from mayfly.model.launches import Launch, Launched, LaunchId, LaunchState, Ticket
from mayfly.ports import Launcher
from tests.fakes.clocks import NOON
from tests.fakes.platforms import PLATFORMS, SERVER, Begun, Platform
from tests.fakes.stand_ins import STAND_INS

POOL = "linux"
PATIENCE_SECONDS = 60.0


EVERY = PLATFORMS | STAND_INS


@pytest.fixture(params=sorted(EVERY))
async def platform(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Platform]:
    async with EVERY[request.param](tmp_path) as running:
        yield running


@pytest.fixture
async def launcher(platform: Platform) -> AsyncIterator[Launcher]:
    async with platform.opened() as opened:
        yield opened


def launch(number: int = 1, pool: str = POOL) -> Launch:
    return Launch(id=LaunchId(f"01kbq{number:021d}"), pool=pool, wanted_at=NOON)


def ticket(number: int = 1) -> Ticket:
    return Ticket(f"mft_secret-{number}")


async def until(there: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            # Podman fails a whole list when a container ends while it looks.
            with suppress(Transient):
                if await there():
                    return
            await asyncio.sleep(0.02)


async def begun(platform: Platform, count: int) -> list[Begun]:
    """So many executors, once they have started."""

    async def there() -> bool:
        return len(await platform.begun()) >= count

    await until(there)
    return await platform.begun()


async def listed(
    launcher: Launcher, id_: LaunchId, *states: LaunchState, pool: str = POOL
) -> Launched:
    """A launch as the platform has it, once it is in one of these states."""
    found: list[Launched] = []

    async def there() -> bool:
        found[:] = [one for one in await launcher.launched(pool) if one.id == id_]
        return bool(found) and found[0].state in states

    await until(there)
    return found[0]


async def over(launcher: Launcher, id_: LaunchId, pool: str = POOL) -> None:
    """Once nothing of it runs; a platform may forget at once what was stopped."""

    async def there() -> bool:
        states = [one.state for one in await launcher.launched(pool) if one.id == id_]
        return not {*states} & {LaunchState.STARTING, LaunchState.RUNNING}

    await until(there)


def test_every_launcher_meets_the_suite():
    met = {name.partition(" ")[0] for name in EVERY}
    assert {point.name for point in entry_points(group="mayfly.launchers")} == met


async def test_as_many_executors_start_as_are_wanted(launcher: Launcher, platform: Platform):
    launches = [launch(number) for number in range(3)]
    await asyncio.gather(*(launcher.start(one, ticket()) for one in launches))
    started = await begun(platform, 3)
    assert sorted(one.launch for one in started) == [one.id for one in launches]
    for one in launches:
        await listed(launcher, one.id, LaunchState.RUNNING)


async def test_an_executor_is_told_its_ticket_and_where_to_go_and_nothing_else(
    launcher: Launcher, platform: Platform
):
    await launcher.start(launch(), ticket())
    (one,) = await begun(platform, 1)
    assert one.environment == {
        "MAYFLY_LAUNCH": launch().id,
        "MAYFLY_POOL": POOL,
        "MAYFLY_TICKET": ticket().reveal(),
        "MAYFLY_URL": SERVER,
    }


async def test_a_start_repeated_by_anyone_starts_nothing_more(
    launcher: Launcher, platform: Platform
):
    await platform.unanswered(launch(), ticket())
    await launcher.start(launch(), ticket(2))
    await launcher.start(launch(), ticket(3))
    await launcher.start(launch(9), ticket(9))
    started = await begun(platform, 2)
    assert sorted(one.launch for one in started) == [launch().id, launch(9).id]
    assert [one.id for one in await launcher.launched(POOL)] == [launch().id, launch(9).id]


async def test_a_start_repeated_after_the_end_starts_nothing_more(
    launcher: Launcher, platform: Platform
):
    await launcher.start(launch(), ticket())
    await begun(platform, 1)
    await platform.ends(launch().id, 0)
    await listed(launcher, launch().id, LaunchState.ENDED)
    await launcher.start(launch(), ticket(2))
    await launcher.start(launch(9), ticket(9))
    assert len(await begun(platform, 2)) == 2
    await listed(launcher, launch().id, LaunchState.ENDED)


async def test_only_the_one_that_is_named_is_stopped(launcher: Launcher, platform: Platform):
    for number in (1, 2):
        await launcher.start(launch(number), ticket(number))
    await begun(platform, 2)
    await launcher.stop(POOL, launch(1).id)
    await over(launcher, launch(1).id)
    await listed(launcher, launch(2).id, LaunchState.RUNNING)


async def test_a_stop_may_be_repeated_and_come_too_late(launcher: Launcher, platform: Platform):
    await launcher.stop(POOL, launch().id)
    await launcher.start(launch(), ticket())
    await begun(platform, 1)
    for _ in range(2):
        await launcher.stop(POOL, launch().id)
    await over(launcher, launch().id)
    await launcher.stop(POOL, launch().id)


async def test_a_launch_belongs_to_its_pool(launcher: Launcher, platform: Platform):
    await launcher.start(launch(1, "linux"), ticket())
    await launcher.start(launch(2, "gpu"), ticket())
    await begun(platform, 2)
    assert [one.id for one in await launcher.launched("linux")] == [launch(1).id]
    await launcher.stop("linux", launch(2).id)
    await listed(launcher, launch(2).id, LaunchState.RUNNING, pool="gpu")


async def test_one_that_ends_badly_is_told_from_one_that_ends_well(
    launcher: Launcher, platform: Platform
):
    for number in (1, 2):
        await launcher.start(launch(number), ticket(number))
    await begun(platform, 2)
    await platform.ends(launch(1).id, 0)
    await platform.ends(launch(2).id, 3)
    await listed(launcher, launch(1).id, LaunchState.ENDED)
    assert (await listed(launcher, launch(2).id, LaunchState.FAILED)).detail


async def test_what_was_started_outlives_the_control_plane_and_is_found_again(platform: Platform):
    async with platform.opened() as gone:
        await gone.start(launch(), ticket())
        await begun(platform, 1)
    async with platform.opened() as launcher:
        await listed(launcher, launch().id, LaunchState.RUNNING)
        await launcher.stop(POOL, launch().id)
        await over(launcher, launch().id)


async def test_a_platform_that_is_away_is_for_another_time(launcher: Launcher, platform: Platform):
    async with platform.away():
        asks: list[Callable[[], Awaitable[object]]] = [
            lambda: launcher.start(launch(), ticket()),
            lambda: launcher.launched(POOL),
            lambda: launcher.stop(POOL, launch().id),
        ]
        for ask in asks:
            with pytest.raises(Transient) as caught:
                await ask()
            assert ticket().reveal() not in str(caught.value)
    await launcher.start(launch(), ticket())
    assert len(await begun(platform, 1)) == 1
