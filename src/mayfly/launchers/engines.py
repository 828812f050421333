"""A container engine, Docker or Podman; its words become our errors here.

See https://docs.docker.com/reference/api/engine/ and `podman-system-service(1)`.
"""

import asyncio
import errno
import io
import json
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiodocker
import aiohttp

from mayfly.launchers.errands import withheld
from mayfly.model.errors import MayflyError, Permanent, Transient
from mayfly.model.launches import Ticket

_PATIENCE_SECONDS = 60.0
"""A start may have to wait for others."""
_NOT_REACHED = 900
"""aiodocker's own number, for an engine that cannot be reached."""
_NO_ROOM = ("no space left", "cannot allocate memory", "no available ip", "exhausted", "quota")


class NameTaken(Permanent):
    """There is a container of this name."""


class Missing(Permanent):
    """There is no such container, or no such image."""


class Engine:
    """Containers by name."""

    def __init__(self, docker: aiodocker.Docker, socket: Path) -> None:
        self._docker = docker
        self._place = f"the container engine at {socket}"

    async def create(self, name: str, body: dict[str, Any]) -> None:
        """NameTaken when there is one. It runs nothing yet."""
        async with self._asked():
            await self._docker.containers.create(body, name=name)

    async def put(self, name: str, path: str, ticket: Ticket) -> None:
        """A file in a container that does not run yet. No inspection of the container shows it."""
        text, archive = ticket.reveal().encode(), io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            # Whoever its user is, the container has nobody else.
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(text), 0o444
            tar.addfile(entry, io.BytesIO(text))
        async with self._asked():
            container: Any = self._container(name)  # aiodocker gives this verb no types
            await container.put_archive("/", archive.getvalue())

    async def start(self, name: str) -> None:
        """Idempotent."""
        async with self._asked():
            await self._container(name).start()

    async def shown(self, name: str) -> dict[str, Any]:
        """All the engine knows of it. Missing when there is none."""
        async with self._asked():
            return await self._container(name).show()

    async def stop(self, name: str, grace_seconds: float) -> None:
        """SIGTERM, and SIGKILL after the grace time. Idempotent."""
        with suppress(Missing):
            async with self._asked():
                await self._container(name).stop(t=round(grace_seconds))

    async def labelled(self, label: str) -> list[dict[str, Any]]:
        """Those with it, ended ones included."""
        async with self._asked():
            found = await self._docker.containers.list(
                all="true", filters=json.dumps({"label": [label]})
            )
        return [each._container for each in found]  # noqa: SLF001 - the list has more than its accessors

    async def remove(self, name: str) -> None:
        """Whatever it runs is killed. Idempotent."""
        with suppress(Missing):
            async with self._asked():
                await self._container(name).delete(force=True, v=True)

    def _container(self, name: str) -> aiodocker.containers.DockerContainer:
        return self._docker.containers.container(name)

    @asynccontextmanager
    async def _asked(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                yield
        except aiodocker.DockerError as error:
            raise self._error(error) from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._away(error) from error

    def _error(self, error: aiodocker.DockerError) -> MayflyError:
        """The one table from its refusals to ours."""
        said = withheld(str(error.message))
        lower = said.lower()
        match error.status:
            case status if status == _NOT_REACHED:
                ours: MayflyError = self._away(error.__cause__ or error)
            case _ if "already in use" in lower:
                ours = NameTaken(said)
            case _ if any(words in lower for words in _NO_ROOM):
                ours = Transient(f"{self._place} has no room: {said}")
            case 401 | 403:
                ours = Permanent(
                    f"{self._place} forbids it: {said}; let Mayfly's user use the engine"
                )
            case 404:
                ours = Missing(f"{self._place} does not find it: {said}")
            case status if status in {408, 429, 502, 503, 504}:
                ours = Transient(f"{self._place} failed: {said}")
            # Podman answers 500 to much that is a person's to mend, and to some that is not.
            case status if status >= 500:
                ours = Transient(f"{self._place} failed: {said}")
            case _:
                ours = Permanent(f"{self._place} refused: {said}")
        return ours

    def _away(self, error: BaseException) -> MayflyError:
        if isinstance(error, OSError) and error.errno in {errno.EACCES, errno.EPERM}:
            return Permanent(f"{self._place} is not for our user; let Mayfly's user use the socket")
        return Transient(f"{self._place} cannot be reached: {type(error).__name__}")


@asynccontextmanager
async def open_engine(socket: Path) -> AsyncIterator[Engine]:
    """The engine at that socket; nothing is asked of it yet."""
    docker = aiodocker.Docker(url=f"unix://{socket}")
    try:
        yield Engine(docker, socket)
    finally:
        await docker.close()
