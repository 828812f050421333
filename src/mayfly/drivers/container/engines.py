"""A container engine of this machine, Docker or Podman, over the API both have.

Its words become our errors here, in one place. See
https://docs.docker.com/reference/api/engine/ and `podman-system-service(1)`.
"""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import aiodocker
import aiohttp
from aiodocker.events import DockerEvents

from mayfly.drivers.container import images
from mayfly.model.errors import InvalidSettings, MayflyError, Permanent, Transient

T = TypeVar("T")

log = logging.getLogger(__name__)

_CALL_SECONDS = 60.0
_LOOK_SECONDS = 30.0  # an engine that lost an event is asked all the same
_PAUSE_SECONDS = 1.0
_REMOVALS = 5
_LINES = 100
_LOOK_FOR, _LOOK_AT = "look for an image", "look at a container"
_SIGNAL, _REMOVE = "signal a container", "remove a container"
_CREATE = "create a container"
_ABOUT_ONE = {_LOOK_FOR, _LOOK_AT, _SIGNAL, _REMOVE}
"""What is asked of one thing that may be gone."""
_UNSTARTED = {"created", "configured", "initialized"}
_ENDED = {"exited", "stopped", "dead"}
"""Of a container, as Docker and Podman name its state."""
_UNKEPT = re.compile("discard|ignored|not support", re.IGNORECASE)
_NOT_REACHED = 900  # aiodocker's own number, for an engine that cannot be reached


class NoProgram(Permanent):
    """The image lacks what a container was to run; the container itself could be made."""


_SENTENCES: tuple[tuple[str, type[Permanent], str], ...] = (
    (
        "setrlimit|rlimit",
        Permanent,
        "it may not set a limit of [runner] ulimits; none may be above its own (ulimit -Hn)",
    ),
    (
        "hybrid mode",
        Permanent,
        "crun needs cgroups of one version; install runc, and name it in its settings",
    ),
    (
        "executable file not found|exec.*no such file or directory",
        NoProgram,
        "the image has no program that [runner] command names",
    ),
    (
        "network .*not found|no such network",
        Permanent,
        "it has no network of the name in [runner] network",
    ),
    (
        "unknown capability|invalid capability",
        Permanent,
        "[runner] capabilities names one that there is not",
    ),
    ("no space left", Permanent, "its disk is full; remove containers and images nobody needs"),
)
"""What engines and their runtimes say, and what it means; the first that fits."""


class End(NamedTuple):
    """How a container ended."""

    exit_code: int | None
    """None: it is not there any more."""
    memory: bool = False
    """Whether the kernel ended it for its memory."""


class Engine:
    """One engine; containers are named by their ids."""

    def __init__(self, docker: aiodocker.Docker, socket: Path, *, podman: bool) -> None:
        self._docker = docker
        self._socket = socket
        self.podman = podman
        """Podman takes the file of a seccomp profile, and can enter network namespaces."""

    async def image(self, name: str) -> str | None:
        """The id of an image; None when it is not there."""
        with suppress(_Missing):
            async with self._told(_LOOK_FOR):
                return str((await self._docker.images.inspect(name))["Id"])
        return None

    async def pull(self, name: str, credentials: str | None, seconds: float) -> None:
        """Fetch an image; ImageMissing tells why it could not."""
        auth = None
        if credentials is not None:
            user, _, password = credentials.partition(":")
            auth = {"username": user, "password": password}
        try:
            async with asyncio.timeout(seconds):
                await self._docker.images.pull(name, auth=auth)
        except TimeoutError as error:
            raise images.missing(name, f"timeout after {seconds:.0f} s") from error
        except (aiodocker.DockerError, aiohttp.ClientError, OSError) as error:
            said = error.message if isinstance(error, aiodocker.DockerError) else str(error)
            if isinstance(error, aiodocker.DockerError) and error.status == _NOT_REACHED:
                raise self._silent(error) from error
            raise images.missing(name, said) from error

    async def create(self, body: dict[str, Any]) -> str:
        """A new container that is not started; its id. Permanent when a limit is not kept.

        An engine that cannot limit says so in a warning, and makes the container all the same; a
        limit one believes in and does not have is worse than none.
        """
        async with self._told(_CREATE):
            made: dict[str, Any] = await self._docker._query_json(  # noqa: SLF001 - its own create() drops the warnings
                "containers/create", method="POST", data=body
            )
        if unkept := [each for each in made.get("Warnings") or [] if _UNKEPT.search(each)]:
            await self.remove(made["Id"])
            raise Permanent(
                f"the container engine keeps no such limit here: {' '.join(unkept)}; run it as "
                "root, delegate cgroups of version 2 to it, or leave the limit out of [runner]"
            )
        return str(made["Id"])

    async def start(self, container: str) -> None:
        """Its first process has been started when this returns, once and never again."""
        try:
            async with self._told("start a container"):
                await self._docker.containers.container(container).start()
        except Transient:  # the answer is lost; it may have been started all the same
            if await self._answered(lambda: self._status(container)) in _UNSTARTED:
                raise

    async def ended(self, container: str, since: float) -> End:
        """Wait for its end, however long the engine is silent; `since` is a time before its start.

        The event is the doorbell; what the engine says when it is asked is the truth.
        """
        while (end := await self._answered(lambda: self._end(container))) is None:
            await self._rung(container, since)
        return end

    async def signal(self, container: str, name: str) -> None:
        """Signal its first process; nothing happens to one that has ended or is gone."""
        try:
            async with self._told(_SIGNAL):
                await self._docker.containers.container(container).kill(signal=name)
        except (_Missing, _Conflict):
            return

    async def output(self, container: str) -> list[str]:
        """The last lines its processes wrote; none when the engine cannot tell."""
        with suppress(MayflyError, UnicodeDecodeError):
            async with self._told("show the output of a container"):
                one = self._docker.containers.container(container)
                said = "".join(await one.log(stdout=True, stderr=True, tail=_LINES))
                return [_readable(line) for line in said.splitlines()[-_LINES:]]
        return []

    async def labelled(self, label: str) -> list[str]:
        """Every container with this label, whatever its state."""
        async with self._told("list containers"):
            found = await self._docker.containers.list(
                all=True, filters=json.dumps({"label": [label]})
            )
            return [each.id for each in found]

    async def remove(self, container: str) -> None:
        """Kill every process in it, and remove it. Idempotent."""
        await self.signal(container, "SIGKILL")
        for _ in range(_REMOVALS - 1):
            with suppress(_Conflict):  # it ended while it was killed, or somebody removes it
                return await self._remove(container)
            await asyncio.sleep(_PAUSE_SECONDS)
        return await self._remove(container)

    async def _remove(self, container: str) -> None:
        with suppress(_Missing):
            async with self._told(_REMOVE):
                await self._docker.containers.container(container).delete(force=True, v=True)

    async def _answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What it says once it speaks again: whatever runs in its containers goes on meanwhile."""
        silent = False
        while True:
            try:
                answer = await ask()
            except Transient as error:
                if not silent:
                    log.warning("engine.silent reason=%r", str(error))
                silent = True
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                if silent:
                    log.info("engine.answered")
                return answer

    async def _status(self, container: str) -> str:
        state = await self._state(container)
        return str(state["Status"]) if state else "gone"

    async def _end(self, container: str) -> End | None:
        state = await self._state(container)
        if state is None:
            return End(None)
        if state["Status"] not in _ENDED:
            return None
        return End(int(state["ExitCode"]), bool(state.get("OOMKilled")))

    async def _state(self, container: str) -> dict[str, Any] | None:
        """What the engine knows of it now; None: it is gone."""
        with suppress(_Missing):
            async with self._told(_LOOK_AT):
                shown = await self._docker.containers.container(container).show()
                return dict(shown["State"])
        return None

    async def _rung(self, container: str, since: float) -> None:
        """Until the engine tells of the end, its stream ends, or it is time to look."""
        events = DockerEvents(self._docker)  # type: ignore[no-untyped-call] # aiodocker leaves it out
        heard = events.subscribe(create_task=False)  # type: ignore[no-untyped-call] # as above
        filters = json.dumps({"container": [container]})
        listening = asyncio.create_task(events.run(since=f"{since:.0f}", filters=filters))
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                while (event := await heard.get()) is not None:
                    if event.get("Action") in {"die", "died"}:
                        return
                await asyncio.sleep(_PAUSE_SECONDS)
        except TimeoutError:
            return
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    @asynccontextmanager
    async def _told(self, what: str) -> AsyncIterator[None]:
        """One call, in time, and the engine's refusals as our errors."""
        with self._translated(what):
            async with asyncio.timeout(_CALL_SECONDS):
                yield

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except aiodocker.DockerError as error:
            raise self._told_by(what, error) from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._silent(error) from error

    def _told_by(self, what: str, error: aiodocker.DockerError) -> MayflyError:
        text = " ".join(error.message.split())
        told = f"the container engine cannot {what}"
        if error.status == _NOT_REACHED:
            return self._silent(error)
        if error.status == 404 and what in _ABOUT_ONE:
            return _Missing(f"{told}: {text[-500:]}")
        if error.status >= 500 and what == _LOOK_AT:  # a job goes on while its engine stumbles
            return Transient(f"{told}: {text[-500:]}")
        if error.status in {304, 409} or "state improper" in text:  # the latter is Podman's
            return _Conflict(f"{told}: {text[-500:]}")
        for pattern, kind, meaning in _SENTENCES:
            if re.search(pattern, text, re.IGNORECASE):
                return kind(f"{told}: {meaning}; it said: {text[-300:]}")
        return Permanent(f"{told}: {text[-500:]}")

    def _silent(self, error: Exception) -> Transient:
        said = error.message if isinstance(error, aiodocker.DockerError) else str(error)
        return silent(self._socket, said or type(error).__name__)


class _Missing(Permanent):
    """There is no such container or image."""


class _Conflict(Permanent):
    """It is not in the state for that."""


@asynccontextmanager
async def opened(socket: Path) -> AsyncIterator[Engine]:
    """The engine that listens there; Transient when none answers."""
    version, podman = await _greeted(socket)
    docker = aiodocker.Docker(f"unix://{socket}", api_version=f"v{version}")
    try:
        yield Engine(docker, socket, podman=podman)
    finally:
        await docker.close()


def silent(socket: Path, said: str) -> Transient:
    """An engine that cannot be reached."""
    return Transient(
        f"the container engine at {socket} does not answer ({said}); start it, or name its socket "
        "in [runner] engine"
    )


async def _greeted(socket: Path) -> tuple[str, bool]:
    """The version of its API, and whether it is Podman; asking for more is slow."""
    try:
        async with (
            asyncio.timeout(_CALL_SECONDS),
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as session,
            session.get("http://engine/_ping") as answer,
        ):
            answer.raise_for_status()
            return answer.headers["Api-Version"], "Libpod-Api-Version" in answer.headers
    except KeyError:
        raise InvalidSettings(f"what listens at {socket} is no container engine") from None
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise silent(socket, str(error) or type(error).__name__) from error


def _readable(line: str) -> str:
    return "".join(each if each.isprintable() else "·" for each in line.rstrip())
