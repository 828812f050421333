"""Executors as executions of a Manual-trigger job of Azure Container Apps."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import msgspec

from mayfly.launchers.arm import Arm, Missing, checked_endpoint, open_arm
from mayfly.launchers.errands import LAUNCH, POOL, TICKET, URL, told
from mayfly.model.errors import InvalidSettings, Permanent
from mayfly.model.launches import Launch, Launched, LaunchId, LaunchState, Ticket
from mayfly.ports import Clock, Launcher

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")
_OURS = {LAUNCH, POOL, URL, TICKET}
_SENT = ("image", "name", "command", "args", "env", "resources")
"""All that a start takes of a container.

Source: JobExecutionContainer, https://learn.microsoft.com/rest/api/containerapps/jobs/start
"""
_STATES = {
    "Processing": LaunchState.STARTING,
    "Stopped": LaunchState.ENDED,
    "Succeeded": LaunchState.ENDED,
    "Failed": LaunchState.FAILED,
}
"""Every other one may have something that runs."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the jobs are, and who may start them."""

    subscription: str
    """The subscription's id."""
    resource_group: str
    """The resource group of the jobs."""
    job: str
    """The job's name; `{pool}` in it is the pool's."""
    container: str | None = None
    """The executor's container; unset: the only one of the job."""
    client_id: str | None = None
    """The user-assigned identity to ask as; unset: the machine's own."""
    endpoint: str = "https://management.azure.com"
    """Azure Resource Manager; another one in a sovereign cloud."""


class _Configuration(msgspec.Struct, rename="camel"):
    trigger_type: str
    replica_retry_limit: int = 0
    manual_trigger_config: dict[str, Any] | None = None


class _Template(msgspec.Struct, rename="camel"):
    containers: list[dict[str, Any]]
    init_containers: list[dict[str, Any]] | None = None
    volumes: list[dict[str, Any]] | None = None


class _Properties(msgspec.Struct):
    configuration: _Configuration
    template: _Template


class _Job(msgspec.Struct):
    properties: _Properties


class _Execution(msgspec.Struct):
    """One execution, and whose it is."""

    name: str
    status: str
    environment: dict[str, str]


@asynccontextmanager
async def open_launcher(
    settings: Settings, *, server: str, pools: Sequence[str], clock: Clock
) -> AsyncIterator[Launcher]:
    """The jobs of the pools, as the machine's managed identity; nothing is asked of Azure yet."""
    for pool in pools:
        if not _NAME.fullmatch(name := settings.job.replace("{pool}", pool)):
            raise InvalidSettings(
                f'job = "{settings.job}" makes {name!r} of pool {pool!r}, which Azure takes for no '
                "name: at most 32 lower-case letters, digits and hyphens"
            )
    async with open_arm(checked_endpoint(settings.endpoint), settings.client_id, clock) as arm:
        yield ContainerAppsLauncher(settings, arm, server)


class ContainerAppsLauncher:
    """Looks before it starts, because Azure does not know one start from its repetition."""

    def __init__(self, settings: Settings, arm: Arm, server: str) -> None:
        self._settings = settings
        self._arm = arm
        self._server = server

    async def start(self, launch: Launch, ticket: Ticket) -> None:
        """The whole template is sent, because what is sent replaces the job's own."""
        if any(one.environment[LAUNCH] == launch.id for one in await self._executions(launch.pool)):
            return
        job = await self._arm.get(self._path(launch.pool), _Job, right=self._right(launch.pool))
        await self._arm.post(
            f"{self._path(launch.pool)}/start",
            self._ordered(job.properties, launch, ticket),
            right=self._right(launch.pool),
            ticket=ticket,
        )

    async def launched(self, pool: str) -> list[Launched]:
        """A launch that was started twice all the same counts by what lives of it."""
        known: dict[LaunchId, Launched] = {}
        for one in await self._executions(pool):
            launch, state = LaunchId(one.environment[LAUNCH]), _state(one)
            if launch not in known or state in _LIVING:
                known[launch] = Launched(launch, state, one.status)
        return sorted(known.values())

    async def stop(self, pool: str, launch: LaunchId) -> None:
        for one in await self._executions(pool):
            if one.environment[LAUNCH] == launch and _state(one) in _LIVING:
                try:
                    await self._arm.post(
                        f"{self._path(pool)}/executions/{one.name}/stop", right=self._right(pool)
                    )
                except Missing:
                    continue  # it has ended meanwhile

    async def _executions(self, pool: str) -> list[_Execution]:
        path = f"{self._path(pool)}/executions"
        found = await self._arm.pages(path, right=self._right(pool))
        return [
            one for each in found if (one := _execution(each)) and one.environment.get(POOL) == pool
        ]

    def _ordered(self, job: _Properties, launch: Launch, ticket: Ticket) -> dict[str, Any]:
        self._check(job, launch.pool)
        template, variables = job.template, told(launch, self._server) | {TICKET: ticket.reveal()}
        executor = self._executor(template.containers, launch.pool)
        ordered: dict[str, Any] = {
            "containers": [
                _sent(one, variables if one is executor else {}) for one in template.containers
            ]
        }
        if template.init_containers:
            ordered["initContainers"] = [_sent(one, {}) for one in template.init_containers]
        return ordered

    def _executor(self, containers: list[dict[str, Any]], pool: str) -> dict[str, Any]:
        wanted = self._settings.container
        found = [one for one in containers if wanted is None or one.get("name") == wanted]
        if len(found) != 1:
            names = ", ".join(str(one.get("name")) for one in containers)
            raise Permanent(
                f"job {self._job(pool)} has the containers {names}; "
                "name the executor's in container"
            )
        return found[0]

    def _check(self, job: _Properties, pool: str) -> None:
        """A job that would start more than one executor, or others than it says."""
        trigger, manual = job.configuration, job.configuration.manual_trigger_config or {}
        once = all(manual.get(name, 1) == 1 for name in ("parallelism", "replicaCompletionCount"))
        if trigger.trigger_type != "Manual" or trigger.replica_retry_limit != 0 or not once:
            raise Permanent(
                f"job {self._job(pool)} must have triggerType Manual, replicaRetryLimit 0, "
                "parallelism 1 and replicaCompletionCount 1: a ticket starts one executor, once"
            )
        if job.template.volumes:
            raise Permanent(
                f"job {self._job(pool)} has volumes, which Azure leaves out of an execution that "
                "is started with variables of its own; take them out of the job"
            )

    def _job(self, pool: str) -> str:
        return self._settings.job.replace("{pool}", pool)

    def _path(self, pool: str) -> str:
        settings = self._settings
        return (
            f"/subscriptions/{quote(settings.subscription, safe='')}"
            f"/resourceGroups/{quote(settings.resource_group, safe='')}/providers"
            f"/Microsoft.App/jobs/{self._job(pool)}"
        )

    def _right(self, pool: str) -> str:
        return (
            "give Mayfly's identity the role Container Apps Jobs Operator on the job "
            f"{self._job(pool)}"
        )


_LIVING = {LaunchState.STARTING, LaunchState.RUNNING}


def _state(execution: _Execution) -> LaunchState:
    return _STATES.get(execution.status, LaunchState.RUNNING)


def _execution(found: Mapping[str, Any]) -> _Execution | None:
    """None for one that somebody else has started."""
    properties = found.get("properties") or {}
    containers = (properties.get("template") or {}).get("containers") or []
    environment = {
        each["name"]: each["value"]
        for one in containers
        for each in one.get("env") or []
        if each.get("name") in {LAUNCH, POOL} and isinstance(each.get("value"), str)
    }
    if LAUNCH not in environment:
        return None
    return _Execution(found["name"], properties.get("status") or "Unknown", environment)


def _sent(container: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    """A container as a start takes it: references to secrets stay references."""
    sent = {name: container[name] for name in _SENT if container.get(name) is not None}
    kept = [each for each in container.get("env") or [] if each.get("name") not in _OURS]
    sent["env"] = kept + [{"name": name, "value": value} for name, value in variables.items()]
    if "resources" in sent:  # the rest of them is Azure's to say
        wanted = {"cpu", "memory", "gpu"}
        sent["resources"] = {k: v for k, v in sent["resources"].items() if k in wanted}
    return sent
