"""Webhook deliveries: made, signed, posted, and remembered."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import time
import uuid
from collections.abc import Callable, Coroutine
from datetime import datetime
from functools import partial
from typing import Any, Literal
from urllib.parse import urlencode

import httpx
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from mayfly.simulator.faults import HookRule, Mischief
from mayfly.simulator.refusals import not_found
from mayfly.simulator.settings import Settings
from mayfly.simulator.signals import Bells

ContentType = Literal["json", "form"]
Work = Callable[[], Coroutine[Any, Any, None]]

CONTENT_TYPES: dict[ContentType, str] = {
    "json": "application/json",
    "form": "application/x-www-form-urlencoded",
}
HOOK_ID = 109948940
KEPT = 100_000


class Delivery(Struct, frozen=True, kw_only=True):
    """One attempt to deliver one event; attempts of the same event share the GUID."""

    id: int
    guid: str
    event: str
    action: str | None
    installation_id: int | None
    repository_id: int | None
    payload: bytes
    delivered_at: datetime
    redelivery: bool = False
    duration: float = 0.0
    status: str = "pending"
    status_code: int = 0
    request_headers: dict[str, str] = msgspec.field(default_factory=dict)
    response_headers: dict[str, str] = msgspec.field(default_factory=dict)
    response_body: str = ""


class Answer(Struct, frozen=True, kw_only=True):
    """How the receiver took it, in GitHub's words."""

    status: str
    status_code: int
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    body: str = ""


TIMED_OUT = Answer(status="timed out", status_code=504)
UNREACHABLE = Answer(status="failed to connect to host", status_code=502)


def signature(secret: str, body: bytes) -> str:
    """The X-Hub-Signature-256 of a body."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


class Deliveries:
    """The App's webhook: posts events, in order within a lane, and keeps the log."""

    def __init__(
        self,
        settings: Settings,
        mischief: Callable[[], Mischief],
        now: Callable[[], datetime],
        bells: Bells,
    ) -> None:
        self.url = settings.webhook_url
        self.secret = settings.webhook_secret
        self.content_type: ContentType = "json"
        self.insecure_ssl = "0"
        self.active = True
        """False: nothing is posted, nothing is logged, and there is no configuration to show."""
        self.log: dict[int, Delivery] = {}
        self._settings = settings
        self._mischief = mischief
        self._now = now
        self._bells = bells
        self._ids = itertools.count(7_000_001)
        self._client: httpx.AsyncClient | None = None
        self._slots = asyncio.Semaphore(settings.webhook_concurrency)
        self._lanes: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def config(self) -> dict[str, object]:
        """How the webhook is set up; the secret is masked, as GitHub does."""
        url = {"url": self.url} if self.url else {}
        secret = {"secret": "********"} if self.secret else {}
        return {
            "content_type": self.content_type,
            "insecure_ssl": self.insecure_ssl,
            # An empty text would be no address, which GitHub's description asks for.
            **url,
            **secret,
        }

    @property
    def pending(self) -> int:
        """Deliveries on their way."""
        return len(self._tasks)

    def send(
        self,
        event: str,
        payload: dict[str, Any],
        *,
        lane: str,
        installation_id: int | None = None,
        repository_id: int | None = None,
    ) -> None:
        """Post an event soon; never waits."""
        if not self.active:
            return
        action = payload.get("action")
        delivery = Delivery(
            id=next(self._ids),
            guid=str(uuid.uuid4()),
            event=event,
            action=action,
            installation_id=installation_id,
            repository_id=repository_id,
            payload=msgspec.json.encode(payload),
            delivered_at=self._now(),
        )
        fault = self._mischief().for_delivery(event, action)
        self._spread(delivery, fault, lane)

    def redeliver(self, delivery_id: int) -> None:
        """Post what was posted once more: a new attempt of the same GUID."""
        old = self.get(delivery_id)
        again = replace(old, id=next(self._ids), redelivery=True, delivered_at=self._now())
        self._spawn(partial(self._attempt, again), lane=None)

    def get(self, delivery_id: int) -> Delivery:
        found = self.log.get(delivery_id)
        if found is None:
            raise not_found()
        return found

    def page(
        self, *, per_page: int, cursor: int | None, status: str | None
    ) -> tuple[list[Delivery], int | None]:
        """Deliveries newest first, from `cursor` on, and where the next page begins."""
        ids = sorted(self.log, reverse=True)
        if cursor is not None:
            ids = [i for i in ids if i <= cursor]
        found = [self.log[i] for i in ids]
        if status is not None:
            found = [d for d in found if (d.status_code < 400) == (status == "success")]
        following = found[per_page].id if len(found) > per_page else None
        return found[:per_page], following

    async def close(self) -> None:
        """Drop what is on its way."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    def _spread(self, delivery: Delivery, fault: HookRule | None, lane: str) -> None:
        match fault.fault if fault else None:
            case "unlogged":
                pass
            case "lost":
                self._record(delivery, TIMED_OUT, 10.0)
            case "doubled":
                self._spawn(partial(self._attempt, delivery), lane=lane)
                again = replace(delivery, id=next(self._ids))
                self._spawn(partial(self._attempt, again), lane=lane)
            case "delayed":
                self._spawn(partial(self._attempt, delivery, delay_ms=_delay(fault)), lane=lane)
            case "reordered":
                # Outside its lane, so what comes later overtakes it.
                self._spawn(partial(self._attempt, delivery, delay_ms=_delay(fault)), lane=None)
            case None:
                self._spawn(partial(self._attempt, delivery), lane=lane)

    def _spawn(self, work: Work, lane: str | None) -> None:
        before = self._lanes.get(lane) if lane else None
        task = asyncio.create_task(_after(before, work))
        self._tasks.add(task)
        if lane:
            self._lanes[lane] = task
        task.add_done_callback(lambda done: self._forget(done, lane))

    def _forget(self, task: asyncio.Task[None], lane: str | None) -> None:
        self._tasks.discard(task)
        if lane and self._lanes.get(lane) is task:
            del self._lanes[lane]
        self._bells.ring("deliveries")

    async def _attempt(self, delivery: Delivery, *, delay_ms: int = 0) -> None:
        if delay_ms:
            await asyncio.sleep(delay_ms / 1000)
        body = self._body(delivery)
        headers = self._headers(delivery, body)
        async with self._slots:
            started = time.monotonic()
            answer = await self._post(body, headers)
        sent = replace(delivery, request_headers=headers)
        self._record(sent, answer, time.monotonic() - started)

    async def _post(self, body: bytes, headers: dict[str, str]) -> Answer:
        if not self.url:
            return UNREACHABLE
        if self._client is None:
            limits = httpx.Limits(max_connections=self._settings.webhook_concurrency)
            self._client = httpx.AsyncClient(
                timeout=self._settings.webhook_timeout_seconds, limits=limits, trust_env=False
            )
        try:
            async with asyncio.timeout(self._settings.webhook_timeout_seconds):
                reply = await self._client.post(self.url, content=body, headers=headers)
        except (TimeoutError, httpx.TimeoutException):
            return TIMED_OUT
        except (httpx.HTTPError, httpx.InvalidURL):
            return UNREACHABLE
        return Answer(
            status="OK" if reply.is_success else f"Invalid HTTP Response: {reply.status_code}",
            status_code=reply.status_code,
            headers=dict(reply.headers),
            body=reply.text,
        )

    def _body(self, delivery: Delivery) -> bytes:
        if self.content_type == "json":
            return delivery.payload
        return urlencode({"payload": delivery.payload}).encode()

    def _headers(self, delivery: Delivery, body: bytes) -> dict[str, str]:
        return {
            "Accept": "*/*",
            "Content-Type": CONTENT_TYPES[self.content_type],
            "User-Agent": "GitHub-Hookshot/51a0f2c",
            "X-GitHub-Delivery": delivery.guid,
            "X-GitHub-Event": delivery.event,
            "X-GitHub-Hook-ID": str(HOOK_ID),
            "X-GitHub-Hook-Installation-Target-ID": str(self._settings.app_id),
            "X-GitHub-Hook-Installation-Target-Type": "integration",
            "X-Hub-Signature-256": signature(self.secret, body),
        }

    def _record(self, delivery: Delivery, answer: Answer, duration: float) -> None:
        self.log[delivery.id] = replace(
            delivery,
            duration=round(duration, 3),
            status=answer.status,
            status_code=answer.status_code,
            response_headers=answer.headers,
            response_body=answer.body,
        )
        if len(self.log) > KEPT:
            del self.log[min(self.log)]
        self._bells.ring("deliveries")


async def _after(before: asyncio.Task[None] | None, work: Work) -> None:
    if before is not None:
        await asyncio.wait([before])
    await work()


def _delay(fault: HookRule | None) -> int:
    return fault.delay_ms if fault else 0
