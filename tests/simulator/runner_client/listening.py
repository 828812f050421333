"""Waiting for a job: sessions and messages of v1, and the broker of v2."""

from __future__ import annotations

from typing import Any

import httpx

from . import crypto
from .calls import MESSAGES, SESSIONS, Connection
from .configuring import Identity, authorize

VERSION = "5.1-preview"


class Listener:
    """One session of a runner; `migrated` is where the service sent it on."""

    def __init__(self, http: httpx.AsyncClient, identity: Identity) -> None:
        self.identity = identity
        self.http = http

        async def renewed() -> str:
            return await authorize(http, identity)

        self.connection = Connection(http, identity.server_url, authorize=renewed)
        self.broker = identity.server_url_v2
        self.migrated: str | None = None
        self.session_id = ""
        self.key: bytes | None = None
        self.fips = False

    async def open(self, *, fips: bool = False) -> None:
        """Begin to listen; the first try is without a token, and refused."""
        asked = {
            "OwnerName": "RUNNER",
            "Agent": {"ID": self.identity.agent_id, "Name": self.identity.name, "Version": "3.0.0"},
            "UseFipsEncryption": fips,
            "EncryptionKey": {},
        }
        if self.broker:
            response = await self.connection.call("POST", self._broker("session"), json=asked)
        else:
            at = {"poolId": self.identity.pool_id}
            response = await self.connection.resource("POST", SESSIONS, VERSION, at=at, json=asked)
        session = response.json()
        self.session_id = session["sessionId"]
        self.fips = session["useFipsEncryption"]
        self.key = crypto.session_key(self.identity.key, session["encryptionKey"], fips=self.fips)
        migration = session.get("brokerMigrationMessage")
        self.migrated = migration["brokerBaseUrl"] if migration else None

    async def poll(self, status: str = "Online", after: int | None = None) -> dict[str, Any] | None:
        """One long poll; None when nothing came."""
        query: dict[str, Any] = {
            "sessionId": self.session_id,
            "runnerVersion": "3.0.0",
            "status": status,
        }
        if self.broker or self.migrated:
            query["disableUpdate"] = "true"
            response = await self.connection.call("GET", self._broker("message"), params=query)
        else:
            if after is not None:
                query["lastMessageId"] = after
            at = {"poolId": self.identity.pool_id}
            response = await self.connection.resource("GET", MESSAGES, VERSION, at=at, params=query)
        if response.status_code != 200 or not response.content:
            return None
        found: dict[str, Any] = response.json()
        return found

    def opened(self, message: dict[str, Any]) -> Any:
        """What a message says."""
        return crypto.opened(message, self.key)

    async def delete(self, message: dict[str, Any]) -> None:
        """The message has been read; v2 has no such call."""
        if not self.broker:
            at = {"poolId": self.identity.pool_id, "messageId": message["messageId"]}
            params = {"sessionId": self.session_id}
            await self.connection.resource("DELETE", MESSAGES, VERSION, at=at, params=params)

    async def acknowledge(self, request: str) -> None:
        """The announcement of a job has been read."""
        params = {"sessionId": self.session_id, "runnerVersion": "3.0.0", "status": "Online"}
        body = {"runnerRequestId": request}
        await self.connection.call("POST", self._broker("acknowledge"), params=params, json=body)

    async def close(self) -> None:
        """Listen no more."""
        if self.broker:
            await self.connection.call("DELETE", self._broker("session"))
        else:
            at = {"poolId": self.identity.pool_id, "sessionId": self.session_id}
            await self.connection.resource("DELETE", SESSIONS, VERSION, at=at)

    def _broker(self, call: str) -> str:
        return f"{(self.broker or self.migrated or '').rstrip('/')}/{call}"
