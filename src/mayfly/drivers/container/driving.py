"""One container after another, each for one runner: created, started, awaited and removed."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import msgspec

from mayfly.drivers import guard, jitconfig, runs, workplaces
from mayfly.drivers.container import bodies, engines, images, profiles
from mayfly.drivers.container.engines import End, Engine
from mayfly.drivers.container.settings import Settings, check, socket_of
from mayfly.drivers.guard import Guard, Started
from mayfly.model.errors import InvalidSettings, MayflyError, Permanent
from mayfly.model.protocol import Finished, Granted, Outcome
from mayfly.ports import Driver

log = logging.getLogger(__name__)

_READ_SECONDS = 60.0  # a container's start may have to wait for others
_STARTING_SECONDS = 10.0
_KILLED = 137  # 128 and SIGKILL
_CLOCK_SECONDS = 2.0  # the engine tells times in whole seconds


@asynccontextmanager
async def open_driver(settings: Settings, home: Path, started: Started) -> AsyncIterator[Driver]:
    """A driver that works in `home`; InvalidSettings when it could never run a container."""
    check(settings)
    async with engines.opened(socket_of(settings)) as engine:
        driver = ContainerDriver(settings, home, engine, started)
        try:
            await driver.begin()
            yield driver
        finally:
            await driver.close()


class ContainerDriver:
    """A fresh container for each claim; all of a slot's carry its label."""

    def __init__(self, settings: Settings, home: Path, engine: Engine, started: Started) -> None:
        self._settings = settings
        self._home = home
        self._engine = engine
        self._started = started
        self._slot = bodies.slot(home)
        self._container: str | None = None
        self._created_at = 0.0
        self._place: Path | None = None
        self._guard: Guard | None = None

    async def begin(self) -> None:
        """What a predecessor left is gone, the image is there, and a container can be started."""
        if self._settings.network.startswith("/") and not self._engine.podman:
            raise InvalidSettings(
                f"network = {self._settings.network!r} is a namespace, which Docker cannot enter; "
                'set "bridge", "none", "host" or a network of Docker by name'
            )
        await self._emptied()
        await self._image()
        await self._try_out()

    async def prepare(self, claim: Granted) -> None:
        """A container that waits to be started, and a job-start hook that listens."""
        await self._emptied()
        image = await self._image()
        with runs.as_permanent(f"cannot prepare {self._home}"):
            # A hook of the operator's own is not taken away for what only tells.
            if claim.guard or guard.VARIABLE not in self._settings.environment:
                self._guard = Guard.opened(
                    self._home, self._started, self._settings.guard_seconds, asks=claim.guard
                )
            await self._create(image, self._settings, {"mayfly.claim": claim.claim})

    async def run(self, name: str, jit_config: str) -> Finished:
        """One runner, to the end of its container."""
        container, place, settings = self._container, self._place, self._settings
        if container is None or place is None:
            raise Permanent("the driver was not prepared for this runner")
        with ExitStack() as stack:
            with runs.as_permanent(f"cannot place the JIT config in {place}"):
                config = jitconfig.checked(jit_config)
                stack.enter_context(
                    jitconfig.passing_file(config, place, settings.account, _READ_SECONDS)
                )
            log.info("runner.ordered runner=%s", name)
            try:
                end = await self._watched(container)
            except Permanent as refused:
                return Finished(Outcome.FAILED, None, str(refused))
        output = [] if end.exit_code == 0 else await self._engine.output(container)
        return self._finished(end, jitconfig.withheld(output, jit_config))

    async def cleanup(self) -> None:
        """Nothing is left of this slot's containers."""
        await self._emptied()

    async def close(self) -> None:
        """Nothing is left."""
        await self._emptied()

    async def _watched(self, container: str) -> End:
        """From its start to its end; a refused job that goes on is stopped.

        Cancelling stops it, too, and then nothing of it is left.
        """
        stopping: list[asyncio.Task[None]] = []

        def stop() -> None:
            stopping.append(asyncio.create_task(self._stopped(container)))

        starting = asyncio.create_task(self._engine.start(container))
        try:
            with runs.stopping_the_refused(self._guard, self._settings.refused_seconds, stop):
                await asyncio.shield(starting)
                return await self._engine.ended(container, self._created_at)
        except asyncio.CancelledError:
            # Or it could begin after we have looked.
            await asyncio.wait({starting}, timeout=_STARTING_SECONDS)
            await self._gone(container)
            raise
        finally:
            for task in (starting, *stopping):
                task.cancel()
            await asyncio.gather(starting, *stopping, return_exceptions=True)

    async def _gone(self, container: str) -> None:
        """Stopped and removed; an engine that does not answer now is told again by `cleanup`."""
        try:
            await self._stopped(container)
            await self._engine.remove(container)
        except MayflyError as error:
            log.error("container.stays reason=%r", str(error))  # noqa: TRY400 - a trace says nothing

    async def _stopped(self, container: str) -> None:
        """The runner is asked first and alone: it knows how to end its job and to tell GitHub so.

        After the grace time everything in the container is killed.
        """
        await self._engine.signal(container, "SIGTERM")
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.grace_seconds):
                await self._engine.ended(container, self._created_at)
        await self._engine.signal(container, "SIGKILL")

    async def _create(self, image: str, settings: Settings, labels: dict[str, str]) -> None:
        self._place = workplaces.passage(self._home)
        body = bodies.body(
            settings,
            image=image,
            labels={bodies.LABEL: self._slot} | labels,
            passing=self._place,
            config=jitconfig.PASSED,
            guard=self._guard.hook if self._guard else None,
            seccomp=self._profile(self._place),
        )
        self._created_at = time.time() - _CLOCK_SECONDS
        self._container = await self._engine.create(body)

    async def _emptied(self) -> None:
        """Containers first, then what they were shown."""
        self._container = self._place = None
        if self._guard is not None:
            self._guard.close()
            self._guard = None
        for container in await self._engine.labelled(f"{bodies.LABEL}={self._slot}"):
            await self._engine.remove(container)
        for directory in [*workplaces.left(self._home), *guard.left(self._home)]:
            await workplaces.remove(directory)

    async def _image(self) -> str:
        """The image's id, so that what its name means cannot change meanwhile; fetched if need be.

        ImageMissing tells why it is not there.
        """
        settings = self._settings
        if (found := await self._engine.image(settings.image)) is not None:
            return found
        if not settings.pull:
            raise images.absent(settings.image)
        log.info("image.fetching image=%s", settings.image)
        credentials = settings.registry_credentials_file
        with runs.as_permanent("cannot read registry_credentials_file"):
            secret = credentials.read_text().strip() if credentials else None
        await self._engine.pull(settings.image, secret, settings.pull_seconds)
        found = await self._engine.image(settings.image)
        if found is None:
            raise images.missing(settings.image, "it was fetched and is not found")
        log.info("image.fetched image=%s id=%s", settings.image, found)
        return found

    def _profile(self, place: Path) -> str:
        """As the engine wants it: Docker the profile itself, Podman the path of a file."""
        own = self._settings.seccomp_file
        if not self._engine.podman:
            return own.read_text() if own else profiles.profile()
        if own is None:
            own = place / "seccomp.json"
            own.write_text(profiles.profile())
        return str(own)

    async def _try_out(self) -> None:
        """InvalidSettings when the engine refuses such a container."""
        settings = msgspec.structs.replace(self._settings, command=("/bin/true",))
        try:
            with runs.as_permanent(f"cannot prepare {self._home}"):
                await self._create(await self._image(), settings, {})
            if self._container is not None:
                with suppress(engines.NoProgram):  # everything before that has been done
                    await self._engine.start(self._container)
        except Permanent as error:
            raise InvalidSettings(f"no container can be made here: {error}") from error
        finally:
            await self._emptied()

    def _finished(self, end: End, output: list[str]) -> Finished:
        how: str | None = None
        if end.exit_code is None:
            how = "vanished with its container"
        elif end.memory or (end.exit_code == _KILLED and self._settings.memory_mb is not None):
            # Podman does not always notice.
            how = "was killed, as the kernel does when memory_mb is used up,"
        return runs.finished(self._guard, end.exit_code, self._settings.command, output, how)
