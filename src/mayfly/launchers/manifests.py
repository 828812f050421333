"""What a Kubernetes cluster is asked to make of one launch."""

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import yaml

from mayfly.launchers.errands import TICKET, told
from mayfly.model.errors import InvalidSettings
from mayfly.model.launches import Launch, LaunchId, Ticket

MANAGED = "app.kubernetes.io/managed-by"
POOL = "mayfly/pool"
LAUNCH = "mayfly/launch"
_KEY = "ticket"

Manifest = dict[str, Any]


class PodTemplate(NamedTuple):
    """An operator's template, and where its executor is."""

    metadata: Manifest
    spec: Manifest
    container: int


def template(path: Path, container: str | None) -> PodTemplate:
    """The template in a file; InvalidSettings when no executor can be made of it."""
    try:
        read = yaml.safe_load(path.read_text())
        msgspec.json.encode(read)  # as it is sent
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise InvalidSettings(f"template {path} cannot be read: {_line(error)}") from error
    spec = read.get("spec") if isinstance(read, dict) else None
    containers = spec.get("containers") if isinstance(spec, dict) else None
    if not (isinstance(spec, dict) and isinstance(containers, list) and containers):
        raise InvalidSettings(f"template {path} has no spec.containers, as a pod template has")
    names = [one.get("name") if isinstance(one, dict) else None for one in containers]
    wanted = [place for place, name in enumerate(names) if container in {None, name}]
    if len(wanted) != 1 or not all(isinstance(name, str) for name in names):
        raise InvalidSettings(
            f"template {path} has the containers {', '.join(map(str, names))}; "
            "name the executor's in container"
        )
    if spec.get("restartPolicy", "Never") != "Never":
        raise InvalidSettings(
            f"template {path} has restartPolicy {spec['restartPolicy']}; a ticket starts one "
            "executor, once: leave it out, or set Never"
        )
    metadata = read.get("metadata") or {}
    if not _has_mappings(metadata, "labels", "annotations"):
        raise InvalidSettings(
            f"template {path} has metadata that is not labels and annotations, each of names and "
            "values"
        )
    variables = containers[wanted[0]].get("env") or []
    if not (isinstance(variables, list) and all(isinstance(one, dict) for one in variables)):
        raise InvalidSettings(
            f"template {path} has an env that is not a list like [{{name: A, value: b}}]"
        )
    kept = {name: metadata[name] for name in ("labels", "annotations") if metadata.get(name)}
    return PodTemplate(kept, spec, wanted[0])


def name(launch: LaunchId) -> str:
    """Of all that belongs to it."""
    return f"mayfly-{launch}"


def selector(pool: str) -> str:
    """What finds all of a pool."""
    return f"{MANAGED}=mayfly,{POOL}={pool}"


def job(of: PodTemplate, launch: Launch, server: str, *, keep_seconds: int) -> Manifest:
    """One pod, once; it has no right of its own in the cluster."""
    labels = _labels(launch)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name(launch.id), "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "ttlSecondsAfterFinished": keep_seconds,
            "template": {
                "metadata": of.metadata | {"labels": of.metadata.get("labels", {}) | labels},
                "spec": of.spec
                | {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "containers": [
                        _told(one, launch, server) if place == of.container else one
                        for place, one in enumerate(of.spec["containers"])
                    ],
                },
            },
        },
    }


def secret(launch: Launch, ticket: Ticket, *, owner: str) -> Manifest:
    """The ticket; deleted with the Job of that uid."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name(launch.id),
            "labels": _labels(launch),
            "ownerReferences": [
                {"apiVersion": "batch/v1", "kind": "Job", "name": name(launch.id), "uid": owner}
            ],
        },
        "type": "Opaque",
        "immutable": True,
        "stringData": {_KEY: ticket.reveal()},
    }


def _line(error: Exception) -> str:
    """What YAML's parser says in several."""
    return " ".join(str(error).split())


def _has_mappings(metadata: object, *names: str) -> bool:
    return isinstance(metadata, dict) and all(
        isinstance(metadata.get(name) or {}, dict) for name in names
    )


def _labels(launch: Launch) -> dict[str, str]:
    return {MANAGED: "mayfly", POOL: launch.pool, LAUNCH: launch.id}


def _told(container: Manifest, launch: Launch, server: str) -> Manifest:
    variables = told(launch, server)
    kept = [
        each for each in container.get("env") or [] if each.get("name") not in {*variables, TICKET}
    ]
    ours: list[Manifest] = [{"name": key, "value": value} for key, value in variables.items()]
    source = {"secretKeyRef": {"name": name(launch.id), "key": _KEY}}
    return container | {"env": [*kept, *ours, {"name": TICKET, "valueFrom": source}]}
