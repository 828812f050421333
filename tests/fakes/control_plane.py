"""A control plane's executor API in a hundred lines: real HTTP, scripted answers, and silences."""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import msgspec

from mayfly.model.protocol import (
    Attended,
    AttendOrder,
    BootOrder,
    ClaimOrder,
    ConfiguredOrder,
    Duty,
    Entrusted,
    FinishOrder,
    Granted,
    HeartbeatAnswer,
    LeaseOrder,
    Order,
    StartedAnswer,
    StartedOrder,
)

TOKEN = "mfx_planted-token"
_KINDS = {
    "lease": LeaseOrder,
    "attend": AttendOrder,
    "claims": ClaimOrder,
    "heartbeat": BootOrder,
    "registration": BootOrder,
    "registration-token": BootOrder,
    "configured": ConfiguredOrder,
    "started": StartedOrder,
    "finish": FinishOrder,
}


class Reply(NamedTuple):
    """One answer; a status of 0 breaks the connection instead, after the request was read."""

    status: int
    body: Any = None
    headers: tuple[str, ...] = ()


SILENCE = Reply(0)
NOTHING = Reply(204)


def problem(status: int, detail: str, *headers: str) -> Reply:
    body = {"type": "about:blank", "title": "Refused", "status": status, "detail": detail}
    return Reply(status, body, ("Content-Type: application/problem+json", *headers))


def granted(claim: str = "c1", **changes: Any) -> Reply:
    fields: dict[str, Any] = {
        "claim": claim,
        "pool": "linux",
        "variant": None,
        "labels": ("self-hosted", "linux"),
        "scope": "repos/octo/demo",
        "guard": False,
        "heartbeat_seconds": 0.02,
    }
    return Reply(201, msgspec.to_builtins(Granted(**(fields | changes))))


def registered(jit_config: str, name: str = "mayfly-c1-1") -> Reply:
    return Reply(201, {"name": name, "generation": 1, "jit_config": jit_config})


def entrusted(token: str, name: str = "mayfly-c1-1") -> Reply:
    order = Entrusted(
        name=name,
        generation=1,
        labels=("self-hosted", "linux"),
        url="https://github.com/octo/demo",
        token=token,
    )
    return Reply(201, msgspec.to_builtins(order))


Answer = Reply | Callable[[Any], Awaitable[Reply]]


class ControlPlane:
    """`script[verb]` holds the next answers; when it is empty, `usual[verb]` answers."""

    def __init__(self) -> None:
        self.url = ""
        self.script: defaultdict[str, deque[Answer]] = defaultdict(deque)
        self.usual: dict[str, Answer] = {
            "lease": self._parked,
            "attend": self._attended,
            "claims": NOTHING,
            "heartbeat": Reply(200, msgspec.to_builtins(HeartbeatAnswer(order=Order.CONTINUE))),
            "registration": registered("JIT"),
            "registration-token": entrusted("REG"),
            "configured": NOTHING,
            "started": Reply(200, msgspec.to_builtins(StartedAnswer(allowed=True))),
            "finish": NOTHING,
        }
        self.heard: defaultdict[str, list[Any]] = defaultdict(list)
        self.paths: list[str] = []
        """What was asked for in turn, attendance left out."""
        self.duty = Duty.SERVE
        """What an executor that attends is told."""
        self._changed = asyncio.Condition()

    def will(self, verb: str, *answers: Answer) -> None:
        self.script[verb].extend(answers)

    async def until(self, verb: str, count: int = 1, seconds: float = 20.0) -> list[Any]:
        """Wait until so many requests of a verb came."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: len(self.heard[verb]) >= count)
        return self.heard[verb]

    async def _parked(self, order: LeaseOrder) -> Reply:
        await asyncio.sleep(order.wait_seconds)
        return NOTHING

    async def tell(self, duty: Duty) -> None:
        """Executors that attend are answered."""
        async with self._changed:
            self.duty = duty
            self._changed.notify_all()

    async def _attended(self, order: AttendOrder) -> Reply:
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if order.gone else order.wait_seconds), self._changed:
                await self._changed.wait_for(lambda: self.duty is not order.duty)
        told = Attended(duty=self.duty, reason="a test", waited_seconds=order.wait_seconds)
        return Reply(200, msgspec.to_builtins(told))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        request, *lines = head.strip().split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        reply = await self._reply(request, headers, body)
        if reply.status == 0:
            return False
        content = b"" if reply.body is None else msgspec.json.encode(reply.body)
        extra = "".join(f"{header}\r\n" for header in reply.headers)
        writer.write(
            f"HTTP/1.1 {reply.status} X\r\n{extra}Content-Length: {len(content)}\r\n\r\n".encode()
        )
        writer.write(content)
        await writer.drain()
        return True

    async def _reply(self, request: str, headers: dict[str, str], body: bytes) -> Reply:
        method, path, _ = request.split(" ")
        verb = path.rsplit("/", 1)[1]
        if headers.get("authorization") != f"Bearer {TOKEN}":
            return problem(401, "no such token")
        if method != "POST" or verb not in _KINDS:
            return problem(404, f"no {method} {path}")
        try:
            order = msgspec.json.decode(body, type=_KINDS[verb])
        except msgspec.DecodeError as error:
            return problem(400, str(error))
        async with self._changed:
            if verb != "attend":
                self.paths.append(path)
            self.heard[verb].append(order)
            self._changed.notify_all()
        answer = self.script[verb].popleft() if self.script[verb] else self.usual[verb]
        return answer if isinstance(answer, Reply) else await answer(order)


@asynccontextmanager
async def control_plane() -> AsyncIterator[ControlPlane]:
    plane = ControlPlane()
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(plane.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    plane.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield plane
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
