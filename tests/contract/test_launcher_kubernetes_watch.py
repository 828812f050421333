"""Kubernetes rings when a Job is over, whatever becomes of the connection meanwhile."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mayfly.model.errors import Permanent
from mayfly.model.launches import Launch, LaunchId, Ticket
from mayfly.model.pools import Pool
from mayfly.ports import WatchedLauncher
from tests.fakes.clocks import NOON
from tests.fakes.engine import opened_engine
from tests.fakes.stand_ins import Kubernetes, in_kubernetes
from tests.servers.platforms import Reply, Request

TICKET = Ticket("mft_of-the-tests")
PATIENCE_SECONDS = 60.0


def launch(number: int = 1, pool: str = "linux") -> Launch:
    return Launch(id=LaunchId(f"01kbq{number:021d}"), pool=pool, wanted_at=NOON)


def name(number: int = 1) -> str:
    return f"mayfly-{launch(number).id}"


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Kubernetes]:
    async with in_kubernetes(tmp_path) as platform:
        yield platform


@pytest.fixture
async def launcher(cluster: Kubernetes) -> AsyncIterator[WatchedLauncher]:
    async with cluster.opened() as opened:
        assert isinstance(opened, WatchedLauncher)
        yield opened


class Rings:
    """What is heard of a pool."""

    def __init__(self) -> None:
        self._heard: asyncio.Queue[None] = asyncio.Queue()

    @property
    def unexpected(self) -> int:
        """Nobody has asked for them."""
        return self._heard.qsize()

    async def listen(self, launcher: WatchedLauncher, pool: str) -> None:
        async for _ in launcher.changes(pool):
            self._heard.put_nowait(None)

    async def next(self, count: int = 1) -> None:
        """So many more."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            for _ in range(count):
                await self._heard.get()


@asynccontextmanager
async def listening(launcher: WatchedLauncher, pool: str = "linux") -> AsyncIterator[Rings]:
    """From the first ring on, which says that nothing is missed any more."""
    rings = Rings()
    task = asyncio.create_task(rings.listen(launcher, pool))
    try:
        await rings.next()
        yield rings
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not there():  # noqa: ASYNC110 - what is waited for rings no bell
            await asyncio.sleep(0.01)


async def read(cluster: Kubernetes) -> None:
    """All that has happened, by whoever listens: the next watches begin after it."""
    before, listeners = len(asked(cluster, to_watch=True)), cluster.server.endpoint.streaming
    cluster.server.cut()
    await until(lambda: len(asked(cluster, to_watch=True)) == before + listeners)


def asked(cluster: Kubernetes, *, to_watch: bool) -> list[Request]:
    return [
        each
        for each in cluster.server.endpoint.told("GET", "/jobs")
        if ("watch" in each.query) is to_watch
    ]


@pytest.mark.parametrize("exit_code", [0, 1])
async def test_a_job_that_is_over_rings_and_one_that_begins_does_not(
    launcher: WatchedLauncher, cluster: Kubernetes, exit_code: int
):
    async with listening(launcher) as rings:
        await launcher.start(launch(), TICKET)
        cluster.server.becomes(name(), active=1, ready=0)
        cluster.server.pod(name(), phase="Pending")
        cluster.server.becomes(name(), active=1, ready=1)
        await cluster.ends(launch().id, exit_code)
        await rings.next()
        await read(cluster)
        assert rings.unexpected == 0


async def test_each_of_several_rings(launcher: WatchedLauncher, cluster: Kubernetes):
    async with listening(launcher) as rings:
        for number in range(3):
            await launcher.start(launch(number), TICKET)
        for number in range(3):
            await cluster.ends(launch(number).id, 0)
        await rings.next(3)
        await read(cluster)
        assert rings.unexpected == 0


async def test_one_that_is_deleted_rings_unless_it_was_over(
    launcher: WatchedLauncher, cluster: Kubernetes
):
    for number in (1, 2):
        await launcher.start(launch(number), TICKET)
    await cluster.ends(launch(1).id, 0)
    async with listening(launcher) as rings:
        cluster.server.vanishes(name(1))
        await launcher.stop("linux", launch(2).id)
        await rings.next()
        await read(cluster)
        assert rings.unexpected == 0


async def test_another_pool_s_ring_for_nobody_else(launcher: WatchedLauncher, cluster: Kubernetes):
    await launcher.start(launch(1, "gpu"), TICKET)
    await launcher.start(launch(2), TICKET)
    async with listening(launcher) as rings, listening(launcher, "gpu") as others:
        await cluster.ends(launch(1).id, 1)
        await others.next()
        await cluster.ends(launch(2).id, 1)
        await rings.next()
        await read(cluster)
        assert (rings.unexpected, others.unexpected) == (0, 0)


async def test_what_happens_while_the_connection_is_cut_rings_late_and_once(
    launcher: WatchedLauncher, cluster: Kubernetes
):
    await launcher.start(launch(1), TICKET)
    await launcher.start(launch(2), TICKET)
    async with listening(launcher) as rings:
        await until(lambda: cluster.server.endpoint.streaming == 1)
        cluster.server.cut()
        await cluster.ends(launch(1).id, 1)
        await rings.next()
        await cluster.ends(launch(2).id, 1)
        await rings.next()
        await read(cluster)
        assert rings.unexpected == 0
    assert len(asked(cluster, to_watch=False)) == 1, "nothing had to be listed anew"


@pytest.mark.parametrize("at_once", [True, False])
async def test_when_the_past_is_forgotten_the_list_is_new_and_rings(
    launcher: WatchedLauncher, cluster: Kubernetes, at_once: bool
):
    await launcher.start(launch(1), TICKET)
    await launcher.start(launch(2), TICKET)
    cluster.server.gone_at_once = at_once
    async with listening(launcher) as rings:
        await until(lambda: cluster.server.endpoint.streaming == 1)
        cluster.server.cut()
        await cluster.ends(launch(1).id, 1)
        cluster.server.forget()
        await rings.next()
        assert len(asked(cluster, to_watch=False)) == 2
        await cluster.ends(launch(2).id, 1)
        await rings.next()


async def test_a_watch_that_ends_is_followed_by_one_from_its_last_bookmark_on(
    launcher: WatchedLauncher, cluster: Kubernetes
):
    await launcher.start(launch(1), TICKET)
    await launcher.start(launch(2, "gpu"), TICKET)
    cluster.server.second = 0.001
    async with listening(launcher) as rings:
        await until(lambda: cluster.server.endpoint.streaming == 1)
        cluster.server.becomes(name(2), active=1)
        await until(lambda: cluster.server.endpoint.streaming == 0)
        cluster.server.forget()
        await cluster.ends(launch(1).id, 1)
        await rings.next()
    first, second, *_ = asked(cluster, to_watch=True)
    assert int(first.query["timeoutSeconds"]) >= 60
    assert int(first.query["resourceVersion"]) < int(second.query["resourceVersion"])
    assert len(asked(cluster, to_watch=False)) == 1


async def test_a_bookmark_rings_for_nobody_and_is_gone_on_from(
    launcher: WatchedLauncher, cluster: Kubernetes
):
    await launcher.start(launch(1), TICKET)
    async with listening(launcher) as rings:
        await until(lambda: cluster.server.endpoint.streaming == 1)
        await launcher.start(launch(2, "gpu"), TICKET)
        cluster.server.bookmark()
        cluster.server.forget()
        cluster.server.cut()
        await cluster.ends(launch(1).id, 1)
        await rings.next()
    assert len(asked(cluster, to_watch=False)) == 1


async def test_an_api_server_that_is_away_for_a_while_is_waited_for(
    launcher: WatchedLauncher, cluster: Kubernetes
):
    await launcher.start(launch(1), TICKET)
    await launcher.start(launch(2), TICKET)
    async with listening(launcher) as rings:
        await until(lambda: cluster.server.endpoint.streaming == 1)
        for status in (503, 429):
            cluster.server.endpoint.instead("GET", "/jobs", Reply(status))
        async with cluster.away():
            await cluster.ends(launch(1).id, 1)
        await rings.next()
        await cluster.ends(launch(2).id, 1)
        await rings.next()
    assert len(asked(cluster, to_watch=True)) == 4, "the first, two refusals, and one that lasts"


async def test_whoever_does_not_listen_any_more_has_no_connection(
    launcher: WatchedLauncher, cluster: Kubernetes
):
    async with listening(launcher), listening(launcher, "gpu"):
        await until(lambda: cluster.server.endpoint.streaming == 2)
    await until(lambda: cluster.server.endpoint.streaming == 0)
    assert await launcher.launched("linux") == [], "others go on"


async def test_a_right_to_watch_that_is_missing_is_named(
    launcher: WatchedLauncher, cluster: Kubernetes
):
    cluster.server.forbidden = {("watch", "jobs")}
    rings = Rings()
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(Permanent, match=r'cannot watch resource "jobs" .* watch and delete'):
            await rings.listen(launcher, "linux")


async def test_an_event_nobody_can_read_costs_a_list(
    launcher: WatchedLauncher, cluster: Kubernetes
):
    async def garbage() -> AsyncGenerator[bytes, None]:
        yield b'{"type": "MODIFIED", "obj\n'
        await asyncio.Event().wait()

    await launcher.start(launch(1), TICKET)
    async with listening(launcher) as rings:
        await until(lambda: cluster.server.endpoint.streaming == 1)
        cluster.server.endpoint.instead("GET", "/jobs", Reply(200, garbage()))
        cluster.server.cut()
        await rings.next()
        await cluster.ends(launch(1).id, 1)
        await rings.next()
        assert cluster.server.endpoint.streaming == 1, "nobody listens to what nobody can read"
    assert len(asked(cluster, to_watch=False)) == 2


async def test_an_event_ends_at_its_own_line_s_end_only(
    launcher: WatchedLauncher, cluster: Kubernetes
):
    await launcher.start(launch(1), TICKET)
    async with listening(launcher) as rings:
        message = "a next line \x85, a separator \u2028, and an end \x1d"
        failed = {"type": "Failed", "status": "True", "message": message}
        cluster.server.becomes(name(), conditions=[failed])
        await rings.next()
    assert len(asked(cluster, to_watch=False)) == 1


async def test_a_control_plane_replaces_a_job_that_failed_without_waiting_for_its_next_list(
    launcher: WatchedLauncher, cluster: Kubernetes
):
    pools = (Pool(name="linux", launcher="cluster"),)
    async with (
        opened_engine(pools=pools, launchers={"linux": launcher}) as engine,
        engine.scaler.open(),
    ):
        await engine.queue(1)
        await engine.turns(1)
        await until(lambda: cluster.server.endpoint.streaming == 1)
        (begun,) = await cluster.begun()
        await cluster.ends(begun.launch, 1)
        await until(lambda: len(cluster.server.made) == 2)
    await until(lambda: cluster.server.endpoint.streaming == 0)
