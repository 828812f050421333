"""Executors as Jobs of a Kubernetes cluster, a Job for each."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from mayfly.launchers import manifests
from mayfly.launchers.cluster import AlreadyExists, Cluster, Event, Missing, open_cluster
from mayfly.model.errors import InvalidSettings, Permanent
from mayfly.model.launches import Launch, Launched, LaunchId, LaunchState, Ticket
from mayfly.ports import Clock, Launcher

_MOUNTED = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""What a pod has of its service account.

Source: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
"""
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_ENDED = {LaunchState.ENDED, LaunchState.FAILED}
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the Jobs are made, and of what; the defaults are for a control plane in the cluster."""

    template: Path
    """A file with the pod template of an executor, in YAML: `metadata` and `spec`."""
    container: str | None = None
    """The executor's container in it; unset: the only one."""
    namespace: str | None = None
    """Where the Jobs are made; unset: where the control plane's own pod is."""
    server: str = "https://kubernetes.default.svc"
    """The API server."""
    token_file: Path = _MOUNTED / "token"
    """The service account's token; read for every call, because Kubernetes renews it."""
    ca_file: Path | None = _MOUNTED / "ca.crt"
    """The certificates the API server is known by."""
    keep_seconds: int = 600
    """How long an ended Job stays, to be looked at."""


@asynccontextmanager
async def open_launcher(
    settings: Settings, *, server: str, pools: Sequence[str], clock: Clock
) -> AsyncIterator[Launcher]:
    """Jobs in one namespace; nothing is asked of the API server yet."""
    for pool in pools:
        if not _LABEL.fullmatch(pool):
            raise InvalidSettings(
                f"pool {pool!r} can be no label in Kubernetes: at most 63 letters, digits, "
                "hyphens, underscores and dots, with a letter or digit at both ends"
            )
    if settings.keep_seconds <= 0:
        raise InvalidSettings(f"keep_seconds is {settings.keep_seconds}; it must be positive")
    template = manifests.template(settings.template, settings.container)
    async with open_cluster(
        settings.server, settings.token_file, settings.ca_file, clock
    ) as cluster:
        yield KubernetesLauncher(settings, _namespace(settings), template, cluster, server)


class KubernetesLauncher:
    """A Job's name is made of its launch's id, so that asking twice makes one."""

    def __init__(
        self,
        settings: Settings,
        namespace: str,
        template: manifests.PodTemplate,
        cluster: Cluster,
        server: str,
    ) -> None:
        self._settings = settings
        self._jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        self._core = f"/api/v1/namespaces/{namespace}"
        self._template = template
        self._cluster = cluster
        self._server = server

    async def start(self, launch: Launch, ticket: Ticket) -> None:
        """First the Job, whose pod waits for the Secret with the ticket; the Job owns that.

        Cut off in between, the repetition makes what is missing.
        """
        wanted = manifests.job(
            self._template, launch, self._server, keep_seconds=self._settings.keep_seconds
        )
        try:
            job = await self._cluster.create(self._jobs, wanted)
        except AlreadyExists:
            job = await self._cluster.get(f"{self._jobs}/{manifests.name(launch.id)}")
            if job["metadata"].get("labels", {}).get(manifests.LAUNCH) != launch.id:
                raise Permanent(
                    f"there is a Job {manifests.name(launch.id)} that is not Mayfly's; delete it"
                ) from None
        secret = manifests.secret(launch, ticket, owner=job["metadata"]["uid"])
        try:
            await self._cluster.create(f"{self._core}/secrets", secret, ticket)
        except AlreadyExists:
            return

    async def launched(self, pool: str) -> list[Launched]:
        """Of pods that do not start, why."""
        selector = manifests.selector(pool)
        jobs = await self._cluster.found(self._jobs, selector)
        known = {job["metadata"]["labels"][manifests.LAUNCH]: _state(job) for job in jobs}
        waiting: dict[str, str] = {}
        if any(state is LaunchState.STARTING for state, _ in known.values()):
            waiting = _waiting(await self._cluster.found(f"{self._core}/pods", selector))
        return sorted(
            Launched(LaunchId(launch), state, waiting.get(launch, "") or said)
            for launch, (state, said) in known.items()
        )

    async def stop(self, pool: str, launch: LaunchId) -> None:
        """Its pod, which is asked to end first, and its Secret go with it."""
        path = f"{self._jobs}/{manifests.name(launch)}"
        try:
            metadata = (await self._cluster.get(path))["metadata"]
        except Missing:
            return
        if metadata.get("labels", {}).get(manifests.POOL) == pool:
            await self._cluster.delete(path, metadata["uid"])

    async def changes(self, pool: str) -> AsyncIterator[None]:
        """Of the many changes of a Job those that `launched` is read for."""
        changes = self._cluster.changes(self._jobs, manifests.selector(pool))
        async with aclosing(changes) as events:
            async for event in events:
                if event is None or _rings(event):
                    yield


def _rings(event: Event) -> bool:
    """Whether a Job is over now; one that was over before is deleted in silence."""
    over = _state(event.object)[0] in _ENDED
    if event.type == "DELETED":
        return not over
    return over and "deletionTimestamp" not in event.object["metadata"]


def _state(job: dict[str, Any]) -> tuple[LaunchState, str]:
    """By the Job's conditions, which say when it is over; else by whether its pod is ready.

    Source: https://kubernetes.io/docs/concepts/workloads/controllers/job/#job-termination-and-cleanup
    """
    status: dict[str, Any] = job.get("status") or {}
    for condition in status.get("conditions") or []:
        if condition.get("status") != "True":
            continue
        said = ": ".join(
            word for word in (condition.get("reason"), condition.get("message")) if word
        )
        match condition.get("type"):
            case "Complete" | "SuccessCriteriaMet":
                return LaunchState.ENDED, said
            case "Failed" | "FailureTarget":
                return LaunchState.FAILED, said
            case _:
                continue
    if status.get("ready"):
        return LaunchState.RUNNING, ""
    return LaunchState.STARTING, ""


def _waiting(pods: list[dict[str, Any]]) -> dict[str, str]:
    """Why, by launch."""
    return {pod["metadata"]["labels"][manifests.LAUNCH]: why for pod in pods if (why := _why(pod))}


def _why(pod: dict[str, Any]) -> str:
    status: dict[str, Any] = pod.get("status") or {}
    said: list[dict[str, Any]] = [
        condition for condition in status.get("conditions") or [] if condition["status"] == "False"
    ]
    for kind in ("initContainerStatuses", "containerStatuses"):
        said = [
            waiting
            for each in status.get(kind) or []
            if (waiting := (each.get("state") or {}).get("waiting"))
        ] + said
    for each in said:
        if words := [word for word in (each.get("reason"), each.get("message")) if word]:
            return ": ".join(words)
    return ""


def _namespace(settings: Settings) -> str:
    if settings.namespace is not None:
        if not _NAMESPACE.fullmatch(settings.namespace):
            raise InvalidSettings(
                f"namespace {settings.namespace!r} can be none in Kubernetes: at most 63 "
                "lower-case letters, digits and hyphens"
            )
        return settings.namespace
    try:
        return (_MOUNTED / "namespace").read_text().strip()
    except OSError:
        raise InvalidSettings(
            "namespace is not set, and this machine is no pod that has one; name it"
        ) from None
