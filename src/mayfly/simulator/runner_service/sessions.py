"""Sessions: one process at a time listens for a runner's jobs."""

from __future__ import annotations

import time
import uuid
from base64 import b64encode

from msgspec import Struct, field

from mayfly.simulator.account_shapes import Json
from mayfly.simulator.actions import Actions
from mayfly.simulator.runner_service import encryption
from mayfly.simulator.runner_service.agents import Agents, TaskAgent
from mayfly.simulator.runners import Runner
from mayfly.simulator.settings import Settings

__all__ = ["Conflict", "OpenSession", "SessionAsked", "Sessions"]


class SessionAsked(Struct, frozen=True, kw_only=True, rename="lower"):
    """The body of a request for a session."""

    owner_name: str = field(default="", name="ownername")
    agent: TaskAgent = field(default_factory=TaskAgent)
    use_fips_encryption: bool = field(default=False, name="usefipsencryption")


class OpenSession(Struct, frozen=True, kw_only=True):
    """A session and how its messages are sealed."""

    id: str
    runner_id: int
    key: bytes | None
    """None: messages travel as they are."""
    fips: bool = False


class Conflict(Exception):
    """Another process listens for this runner."""


class Sessions:
    """The open sessions, one for each runner at most."""

    def __init__(self, actions: Actions, agents: Agents, settings: Settings) -> None:
        self._actions = actions
        self._agents = agents
        self._settings = settings
        self._open: dict[str, OpenSession] = {}

    def open(self, runner: Runner, asked: SessionAsked) -> OpenSession:
        """A new session; raises Conflict while another one shows signs of life."""
        runners = self._actions.runners
        taken = runners.sessions[runner.id].token
        if taken is not None and runner.status == "online":
            raise Conflict
        if taken is not None:
            self.drop(taken)
        encrypted = self._settings.runner_encryption != "plain"
        fips = asked.use_fips_encryption or self._settings.runner_encryption == "sha256"
        session = OpenSession(
            id=str(uuid.uuid4()),
            runner_id=runner.id,
            key=encryption.session_key() if encrypted else None,
            fips=encrypted and fips,
        )
        self._open[session.id] = session
        version = asked.agent.version or runners.version
        connected = runners.connect(runner.id, session.id, version, time.monotonic())
        self._actions.online(connected)
        return session

    def find(self, session_id: str | None, runner_id: int) -> OpenSession | None:
        """The session, if it is this runner's and none has taken its place."""
        found = self._open.get(session_id or "")
        return found if found is not None and found.runner_id == runner_id else None

    def drop(self, session_id: str) -> None:
        """Forget a session, whether it is there or not."""
        found = self._open.pop(session_id, None)
        if found is not None:
            self._actions.runners.disconnect(found.runner_id)

    def forget(self) -> None:
        """Drop the sessions of runners that are gone."""
        live = self._actions.runners.all
        self._open = {i: s for i, s in self._open.items() if s.runner_id in live}

    def shape(self, session: OpenSession, asked: SessionAsked) -> Json:
        """A session as a runner reads it."""
        return {
            "sessionId": session.id,
            "ownerName": asked.owner_name,
            "agent": {"id": session.runner_id, "name": asked.agent.name},
            "encryptionKey": self._encryption_key(session),
            "useFipsEncryption": session.fips,
        }

    def _encryption_key(self, session: OpenSession) -> Json:
        if session.key is None:
            return {"encrypted": False, "value": ""}
        public = self._agents.key(session.runner_id)
        if public is None:
            return {"encrypted": False, "value": b64encode(session.key).decode()}
        value = encryption.wrapped(session.key, public, fips=session.fips)
        return {"encrypted": True, "value": value}
