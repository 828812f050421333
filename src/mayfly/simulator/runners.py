"""Runners as GitHub keeps them: registrations, sessions, and which jobs they may take."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from mayfly.simulator.jobs import Conclusion
from mayfly.simulator.refusals import Refusal, not_found, unprocessable


class Scope(Struct, frozen=True, kw_only=True):
    """Where a runner is registered: one repository, or a whole owner when `repo` is None."""

    owner: str
    repo: str | None = None

    def serves(self, owner: str, repo: str) -> bool:
        """Whether jobs of this repository may come here."""
        if self.owner.lower() != owner.lower():
            return False
        return self.repo is None or self.repo.lower() == repo.lower()

    def same(self, other: Scope) -> bool:
        return (self.owner.lower(), (self.repo or "").lower()) == (
            other.owner.lower(),
            (other.repo or "").lower(),
        )


class Virtual(Struct, frozen=True, kw_only=True):
    """How a runner without a process treats its jobs."""

    after_ms: int | None = 0
    """None: it keeps the job until told to complete it."""
    conclusion: Conclusion = "success"


class Runner(Struct, frozen=True, kw_only=True):
    """A registered runner."""

    id: int
    name: str
    scope: Scope
    labels: tuple[str, ...]
    created_at: datetime
    group_id: int = 1
    work_folder: str = "_work"
    ephemeral: bool = True
    virtual: Virtual | None = None
    status: Literal["online", "offline"] = "offline"
    version: str | None = None
    """None until its process has connected."""
    job: int | None = None
    """The uid of the job given to it; the job is queued until the runner has acquired it."""

    @property
    def busy(self) -> bool:
        return self.job is not None


class Session(Struct, kw_only=True):
    """What is known of a runner's process; changes with every request of it."""

    registration: str
    """The secret of the JIT config."""
    token: str | None = None
    """The secret of the session; None until a process has opened it."""
    seen: float = 0.0
    """Monotonic seconds of the last sign of life."""
    polls: int = 0
    """Long polls open now."""
    held_until: float = 0.0
    """Monotonic seconds; until then a silent runner keeps the job it has renewed."""


class RunnerGroup(Struct, frozen=True, kw_only=True):
    """A runner group of an organization."""

    id: int
    name: str
    visibility: str = "all"
    default: bool = False
    allows_public_repositories: bool = False


DEFAULT_GROUP = RunnerGroup(id=1, name="Default", default=True)


def covers(runner_labels: Iterable[str], job_labels: Iterable[str]) -> bool:
    """GitHub's rule: every label of the job is one of the runner's, in whatever case."""
    return {label.lower() for label in job_labels} <= {label.lower() for label in runner_labels}


class Runners:
    """All registrations, with the session behind each."""

    def __init__(self, version: str) -> None:
        self.version = version
        """Of the runner's program, wherever it runs."""
        self.all: dict[int, Runner] = {}
        self.sessions: dict[int, Session] = {}
        self.groups: dict[tuple[str, int], RunnerGroup] = {}
        self._by_registration: dict[str, int] = {}
        self._by_session: dict[str, int] = {}
        self._ids = itertools.count(21)
        self._group_ids = itertools.count(2)

    def register(
        self,
        scope: Scope,
        name: str,
        labels: tuple[str, ...],
        now: datetime,
        *,
        group_id: int = 1,
        work_folder: str = "_work",
        virtual: Virtual | None = None,
        ephemeral: bool = True,
    ) -> tuple[Runner, Session]:
        """A new registration, offline until a process opens its session."""
        _check(name, labels)
        if self.named(scope, name) is not None:
            raise Refusal(409, "Already exists - A runner with the name *** already exists.")
        self.group(scope, group_id)
        runner = Runner(
            id=next(self._ids),
            name=name,
            scope=scope,
            labels=labels,
            created_at=now,
            group_id=group_id,
            work_folder=work_folder,
            virtual=virtual,
            ephemeral=ephemeral,
            status="online" if virtual else "offline",
            version=self.version if virtual else None,
        )
        session = Session(registration=secrets.token_urlsafe(32))
        self.all[runner.id] = runner
        self.sessions[runner.id] = session
        self._by_registration[session.registration] = runner.id
        return runner, session

    def open_session(self, registration: str, now: float) -> tuple[Runner, str]:
        """Turn a JIT config into a session, once."""
        runner_id = self._by_registration.get(registration)
        if runner_id is None:
            raise Refusal(404, "runner registration has been deleted")
        session = self.sessions[runner_id]
        if session.token is not None:
            raise Refusal(409, "a session exists for this runner; its configuration is used up")
        token = secrets.token_urlsafe(32)
        return self.connect(runner_id, token, self.version, now), token

    def connect(self, runner_id: int, token: str, version: str, now: float) -> Runner:
        """A process listens for this runner from now on, under the secret `token`."""
        session = self.sessions[runner_id]
        session.token = token
        session.seen = now
        self._by_session[token] = runner_id
        return self.change(runner_id, status="online", version=version)

    def disconnect(self, runner_id: int) -> None:
        """Its process listens no more; another one may."""
        session = self.sessions.get(runner_id)
        if session is not None and session.token is not None:
            self._by_session.pop(session.token, None)
            session.token = None

    def of_session(self, token: str) -> Runner:
        """The runner behind a session; raises Refusal 404 once it is de-registered."""
        try:
            return self.all[self._by_session[token]]
        except KeyError:
            raise Refusal(404, "runner not found") from None

    def change(self, runner_id: int, **changes: object) -> Runner:
        changed = replace(self.all[runner_id], **changes)
        self.all[runner_id] = changed
        return changed

    def remove(self, runner_id: int) -> Runner:
        runner = self.all.pop(runner_id)
        session = self.sessions.pop(runner_id)
        self._by_registration.pop(session.registration, None)
        if session.token is not None:
            self._by_session.pop(session.token, None)
        return runner

    def get(self, scope: Scope, runner_id: int) -> Runner:
        """A runner of exactly this scope; a repository does not list its owner's."""
        runner = self.all.get(runner_id)
        if runner is None or not runner.scope.same(scope):
            raise not_found()
        return runner

    def find(self, name_or_id: str | int) -> Runner:
        """A runner by id or by name, whatever its scope."""
        wanted = str(name_or_id)
        for runner in self.all.values():
            if wanted in {str(runner.id), runner.name}:
                return runner
        raise not_found()

    def listed(self, scope: Scope, name: str | None = None) -> list[Runner]:
        mine = [r for r in self.all.values() if r.scope.same(scope)]
        return mine if name is None else [r for r in mine if r.name == name]

    def named(self, scope: Scope, name: str) -> Runner | None:
        mine = self.listed(scope)
        return next((r for r in mine if r.name.lower() == name.lower()), None)

    def group(self, scope: Scope, group_id: int) -> RunnerGroup:
        if group_id == DEFAULT_GROUP.id:
            return DEFAULT_GROUP
        found = self.groups.get((scope.owner.lower(), group_id))
        if found is None or scope.repo is not None:
            raise not_found()
        return found

    def add_group(self, owner: str, name: str, visibility: str) -> RunnerGroup:
        group = RunnerGroup(id=next(self._group_ids), name=name, visibility=visibility)
        self.groups[owner.lower(), group.id] = group
        return group

    def groups_of(self, owner: str) -> list[RunnerGroup]:
        mine = [g for (login, _), g in self.groups.items() if login == owner.lower()]
        return [DEFAULT_GROUP, *mine]


def _check(name: str, labels: tuple[str, ...]) -> None:
    if not 1 <= len(name.strip()) <= 64:
        raise unprocessable("Validation Failed", "name must be 1 to 64 characters long")
    if not 1 <= len(labels) <= 100:
        raise unprocessable("Validation Failed", "labels must have 1 to 100 items")
    if any(not label.strip() or len(label) > 256 for label in labels):
        raise unprocessable("Validation Failed", "a label must be 1 to 256 characters long")
