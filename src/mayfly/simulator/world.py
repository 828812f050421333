"""The whole simulated GitHub: its parts, its clock, and the events it sends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mayfly.simulator import account_shapes as shapes
from mayfly.simulator import action_shapes
from mayfly.simulator.accounts import Accounts, Installation, Repository
from mayfly.simulator.actions import Actions
from mayfly.simulator.deliveries import HOOK_ID, Deliveries
from mayfly.simulator.faults import Faults, Mischief
from mayfly.simulator.jobs import WorkflowJob, WorkflowRun
from mayfly.simulator.limits import Limits
from mayfly.simulator.refusals import Refusal
from mayfly.simulator.runs import Trigger
from mayfly.simulator.settings import APP_PERMISSIONS, Settings
from mayfly.simulator.signals import Bells
from mayfly.simulator.tokens import Tokens, verify_app_token
from mayfly.simulator.workflows import parse


def utc_now() -> datetime:
    return datetime.now(UTC)


class World:
    """One GitHub; all of its state changes on one event loop, so nothing needs a lock."""

    def __init__(
        self, settings: Settings, base: str, now: Callable[[], datetime] = utc_now
    ) -> None:
        self.now = now
        self.settings = settings
        self.newest_release = settings.runner_version
        """What GitHub offers for download."""
        self.base = settings.public_url or base
        self.bells = Bells()
        self.accounts = Accounts()
        self.tokens = Tokens()
        self.limits = Limits(settings.rate_limit, settings.secondary_points_per_minute)
        self.mischief = Mischief(Faults(seed=settings.seed))
        self.calls: Counter[str] = Counter()
        self.check_runs: list[dict[str, object]] = []
        self.deliveries = Deliveries(settings, lambda: self.mischief, now, self.bells)
        self.actions = Actions(
            settings,
            bells=self.bells,
            now=now,
            announce=self._announce_job,
            later=self._later,
        )
        self.app_public_key = settings.app_public_key
        self.permissions = dict(APP_PERMISSIONS)
        """What the App asks of owners; an installation may grant less."""
        self.events: tuple[str, ...] = ("workflow_job",)
        """What the App subscribes to; events about installations come unasked."""
        self.manifest_codes: dict[str, str | None] = {}
        """Code → the webhook address its manifest names."""
        self.closing = False
        self._tasks: set[asyncio.Task[None]] = set()
        for account in settings.accounts:
            self.accounts.add(account, now())

    def open(self) -> None:
        """Begin to watch runners and dispatch the workflows of the settings."""
        self._spawn(self._watch())
        for path in self.settings.workflows:
            self.dispatch_file(Path(path))

    async def close(self) -> None:
        """Let every waiter go and stop what runs in the background."""
        self.closing = True
        self.bells.ring_all()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.deliveries.close()

    def app(self) -> dict[str, object]:
        """The App as it is registered."""
        installations = len(self.accounts.installations)
        return shapes.app(self.settings, self.permissions, self.events, installations, self.base)

    def verify_app(self, authorization: str | None) -> None:
        """Accept the App's own token, or raise Refusal."""
        verify_app_token(
            authorization,
            public_key=self.app_public_key,
            issuers=frozenset({str(self.settings.app_id), self.settings.client_id}),
            now=self.now(),
        )

    def install_token(
        self,
        installation: Installation,
        names: Iterable[str],
        ids: Iterable[int],
        permissions: dict[str, str] | None,
    ) -> tuple[dict[str, object], str]:
        """Hand out an installation token, narrowed as asked; (body, token)."""
        chosen = self._narrowed(installation, list(names), list(ids))
        wanted = dict(installation.permissions) if permissions is None else permissions
        if not _within(wanted, installation.permissions):
            raise Refusal(422, "The permissions requested are not granted to this installation.")
        token = self.tokens.issue(
            installation,
            permissions=wanted,
            repository_ids=None if chosen is None else frozenset(r.id for r in chosen),
            expires_at=self.now() + timedelta(seconds=self.settings.token_seconds),
        )
        return shapes.token(token, chosen, self.base), token.value

    def dispatch_file(self, path: Path) -> WorkflowRun:
        """Run a workflow file on the first repository there is."""
        first = next(iter(self.accounts.repositories.values()), None)
        if first is None:
            raise Refusal(422, "there is no repository to run a workflow in")
        trigger = Trigger(path=f".github/workflows/{path.name}")
        return self.actions.dispatch(first, parse(path.read_text()), trigger)

    def announce(
        self,
        event: str,
        payload: dict[str, Any],
        *,
        installation: Installation | None,
        repository: Repository | None = None,
        lane: str,
    ) -> None:
        """Send an event, with what GitHub puts into every payload."""
        base = self.base
        owner = installation.owner if installation else None
        if repository is not None:
            owner = repository.owner
            payload = payload | {"repository": shapes.repository(repository, base)}
        if owner is not None and owner.type == "Organization":
            payload = payload | {"organization": shapes.organization(owner, base)}
        if owner is not None:
            payload = payload | {"sender": shapes.user(owner, base)}
        if installation is not None and "installation" not in payload:
            node = shapes.node_id("IntegrationInstallation", installation.id)
            payload = payload | {"installation": {"id": installation.id, "node_id": node}}
        self.deliveries.send(
            event,
            payload,
            lane=lane,
            installation_id=installation.id if installation else None,
            repository_id=repository.id if repository else None,
        )

    def announce_installation(
        self, event: str, action: str, found: Installation, **more: object
    ) -> None:
        """An `installation` or `installation_repositories` event."""
        body = shapes.installation(found, self.settings, self.base)
        payload: dict[str, Any] = {"action": action, "installation": body, **more}
        self.announce(event, payload, installation=found, lane=f"installation-{found.id}")

    def ping(self) -> None:
        """What GitHub sends to a new webhook address."""
        hook = {
            "type": "App",
            "id": HOOK_ID,
            "name": "web",
            "active": True,
            "events": list(self.events),
            "config": self.deliveries.config,
            "app_id": self.settings.app_id,
        }
        payload = {"zen": "Favor focus over features.", "hook_id": HOOK_ID, "hook": hook}
        self.announce("ping", payload, installation=None, lane="ping")

    async def wait(self, look: Callable[[], bool], timeout: float, topic: str = "state") -> bool:
        """Whether `look` came true within `timeout` seconds."""
        return bool(await self.bells.until(topic, lambda: look() or None, timeout))

    def _announce_job(self, job: WorkflowJob, action: str) -> None:
        run = self.actions.runs.runs[job.run_id]
        installation = self.accounts.installation_for(run.repository)
        # The App hears nothing of repositories it is not installed on, or is suspended from.
        if installation is None or installation.suspended_at is not None:
            return
        if "workflow_job" not in self.events:
            return
        self.announce(
            "workflow_job",
            {"action": action, "workflow_job": action_shapes.workflow_job(job, run, self.base)},
            installation=installation,
            repository=run.repository,
            lane=f"job-{job.id}",
        )

    def _narrowed(
        self, installation: Installation, names: list[str], ids: list[int]
    ) -> list[Repository] | None:
        visible = list(self.accounts.visible(installation))
        if not names and not ids:
            return None if installation.selection == "all" else visible
        lowered = {name.lower() for name in names}
        chosen = [r for r in visible if r.name.lower() in lowered or r.id in ids]
        if len(chosen) < len(lowered) + len(set(ids)):
            raise Refusal(
                422,
                "There is at least one repository that does not exist or is not accessible "
                "to the parent installation.",
            )
        return chosen

    async def _watch(self) -> None:
        pause = max(0.05, min(self.settings.runner_lost_after_seconds / 5, 0.5))
        while True:
            await asyncio.sleep(pause)
            self.actions.sweep()

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            act()

        self._spawn(wait())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        with suppress(asyncio.CancelledError):
            # A fault of the simulator's own must be heard, not swallowed with the task.
            task.result()


def _within(wanted: dict[str, str], granted: dict[str, str]) -> bool:
    order = ("read", "write", "admin")
    return all(
        name in granted and level in order and order.index(level) <= order.index(granted[name])
        for name, level in wanted.items()
    )
