"""A stand-in for a Kubernetes API server: Jobs, Secrets and Pods of one namespace.

It keeps what is documented of them: names are unique for a kind, 409 AlreadyExists and 404
NotFound, uids and resource versions, label selectors, lists in pages, owners whose end is that of
what they own, and a quota that is refused with 403 as rights are. A watch tells what came after a
version, with bookmarks, ends after its time, and is 410 Gone for a version that is forgotten.
Every manifest is checked against Kubernetes' own schemas. It runs nothing: a test says what the
controllers would.
Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

import asyncio
import base64
import re
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import kubernetes_validate
import msgspec

from tests.servers.platforms import Endpoint, Reply, Request, serving

NAMESPACE = "runners"
VERSION = "1.33"
_PATH = re.compile(
    r"(?P<api>/api/v1|/apis/batch/v1)/namespaces/(?P<namespace>[^/]+)"
    r"/(?P<plural>jobs|secrets|pods)(?:/(?P<name>[^/]+))?"
)
_KINDS = {"jobs": ("batch/v1", "Job"), "secrets": ("v1", "Secret"), "pods": ("v1", "Pod")}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?")
_VERBS = {"POST": "create", "GET": "get", "DELETE": "delete"}


class _Happened(NamedTuple):
    """An event of a watch."""

    version: int
    plural: str
    type: str
    labels: dict[str, str]
    object: msgspec.Raw
    """As it was then."""


class ApiServer:
    """One namespace, one service account."""

    def __init__(self) -> None:
        self.endpoint = Endpoint(self._answer)
        self.token = "the service account's token of the tests"
        self.most_jobs: int | None = None
        self.forbidden: set[tuple[str, str]] = set()
        """(verb, plural)s the service account has no right to."""
        self.page = 500
        self.made: list[tuple[str, dict[str, Any]]] = []
        """Every Job there has ever been."""
        self.kept: dict[str, dict[str, dict[str, Any]]] = {"jobs": {}, "secrets": {}, "pods": {}}
        self.second = 1.0
        """How long one of a watch's timeoutSeconds is."""
        self.gone_at_once = True
        """Whether 410 Gone is the answer to a watch, or an event in it; both are documented."""
        self._version = self._forgotten = 1
        self._history: list[_Happened] = []
        self._watches: set[asyncio.Queue[_Happened | None]] = set()

    @property
    def url(self) -> str:
        return self.endpoint.url

    def becomes(self, job: str, **status: Any) -> None:
        """The Job controller says so from now on."""
        self.kept["jobs"][job]["status"] = status
        self._happened("MODIFIED", "jobs", self.kept["jobs"][job])

    def vanishes(self, job: str) -> None:
        """Somebody, or its time to live, deletes it with all that it owns."""
        self._delete("jobs", job, {"propagationPolicy": "Foreground"})

    def bookmark(self) -> None:
        """Every watch that takes them hears how far it has come."""
        for plural in _KINDS:
            self._tell(self._bookmark(plural))

    def forget(self) -> None:
        """What has happened so far, as etcd's compaction does."""
        self._forgotten = self._version
        self._history.clear()

    def cut(self) -> None:
        """The connection of every watch breaks."""
        for watch in self._watches:
            watch.put_nowait(None)

    def pod(self, job: str, **status: Any) -> None:
        """The Job controller has made its pod."""
        owner = self.kept["jobs"][job]
        template = owner["spec"]["template"]
        self._make(
            "pods",
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": f"{job}-x7k2p",
                    "labels": template["metadata"]["labels"],
                    "ownerReferences": [{"uid": owner["metadata"]["uid"]}],
                },
                "spec": template["spec"],
                "status": status,
            },
        )

    def environment(self, job: dict[str, Any]) -> dict[str, str]:
        """What the executor of a Job finds, with what its references lead to."""
        (container,) = job["spec"]["template"]["spec"]["containers"]
        found = {}
        for each in container["env"]:
            reference = each.get("valueFrom", {}).get("secretKeyRef")
            if reference is None:
                found[each["name"]] = each["value"]
            elif reference["name"] in self.kept["secrets"]:
                data = self.kept["secrets"][reference["name"]]["data"]
                found[each["name"]] = base64.b64decode(data[reference["key"]]).decode()
        return found

    def _answer(self, request: Request) -> Reply:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return _refused(401, "Unauthorized", "Unauthorized")
        found = _PATH.fullmatch(request.path)
        if found is None:
            return _refused(404, "NotFound", "the server could not find the requested resource")
        plural, name = found["plural"], found["name"]
        verb = _VERBS[request.method]
        if verb == "get" and name is None:
            verb = "watch" if request.query.get("watch") in {"1", "true"} else "list"
        if (verb, plural) in self.forbidden or found["namespace"] != NAMESPACE:
            return _refused(
                403,
                "Forbidden",
                f'{plural} is forbidden: User "system:serviceaccount:{NAMESPACE}:mayfly" cannot '
                f'{verb} resource "{plural}" in the namespace "{found["namespace"]}"',
            )
        match verb:
            case "create":
                return self._create(plural, request.json())
            case "list":
                return self._list(plural, request.query)
            case "watch":
                return self._watch(plural, request.query)
            case _ if name not in self.kept[plural]:
                return _refused(404, "NotFound", f'{plural} "{name}" not found')
            case "get":
                return Reply(200, self.kept[plural][name])
            case _:
                return self._delete(plural, name, request.json())

    def _create(self, plural: str, manifest: dict[str, Any]) -> Reply:
        try:
            kubernetes_validate.validate(manifest, VERSION, strict=True)
        except kubernetes_validate.ValidationError as error:
            return _refused(422, "Invalid", error.message)
        name, labels = manifest["metadata"]["name"], manifest["metadata"].get("labels", {})
        expected = (manifest["apiVersion"], manifest["kind"])
        if expected != _KINDS[plural] or not _NAME.fullmatch(name):
            return _refused(422, "Invalid", f'"{name}" is invalid')
        if not all(_LABEL.fullmatch(value) for value in labels.values()):
            return _refused(422, "Invalid", f'"{name}" is invalid: metadata.labels')
        if name in self.kept[plural]:
            return _refused(409, "AlreadyExists", f'{plural} "{name}" already exists')
        jobs = len(self.kept["jobs"])
        if plural == "jobs" and self.most_jobs is not None and jobs >= self.most_jobs:
            return _refused(
                403,
                "Forbidden",
                f'jobs.batch "{name}" is forbidden: exceeded quota: executors, requested: '
                f"count/jobs.batch=1, used: count/jobs.batch={jobs}, limited: "
                f"count/jobs.batch={self.most_jobs}",
            )
        return Reply(201, self._make(plural, manifest))

    def _make(self, plural: str, manifest: dict[str, Any]) -> dict[str, Any]:
        made = manifest | {"metadata": manifest["metadata"] | {"uid": str(uuid.uuid4())}}
        if texts := made.pop("stringData", None):  # write-only
            made["data"] = {
                key: base64.b64encode(text.encode()).decode() for key, text in texts.items()
            }
        if plural == "jobs":
            made["status"] = {}
            self.made.append((made["metadata"]["name"], made))
        self.kept[plural][made["metadata"]["name"]] = made
        self._happened("ADDED", plural, made)
        return made

    def _list(self, plural: str, query: dict[str, str]) -> Reply:
        wanted = _selected(query)
        found = [
            one
            for one in self.kept[plural].values()
            if wanted.items() <= one["metadata"].get("labels", {}).items()
        ]
        start = int(query.get("continue", 0))
        end = start + min(self.page, int(query.get("limit", self.page)))
        metadata = {"resourceVersion": str(self._version)}
        if end < len(found):
            metadata["continue"] = str(end)
        return Reply(200, {"kind": "List", "metadata": metadata, "items": found[start:end]})

    def _delete(self, plural: str, name: str, options: dict[str, Any] | None) -> Reply:
        wanted = (options or {}).get("preconditions", {}).get("uid")
        if wanted not in {None, self.kept[plural][name]["metadata"]["uid"]}:
            return _refused(409, "Conflict", f'{plural} "{name}" has another uid')
        gone = self.kept[plural].pop(name)
        self._happened("DELETED", plural, gone)
        # Some versions leave the pods of a Job to themselves unless they are told not to.
        if (options or {}).get("propagationPolicy") in {"Background", "Foreground"}:
            for kind, owned in self.kept.items():
                for each in [
                    key
                    for key, one in owned.items()
                    for owner in one["metadata"].get("ownerReferences", [])
                    if owner["uid"] == gone["metadata"]["uid"]
                ]:
                    self._happened("DELETED", kind, owned.pop(each))
        return Reply(200, {"kind": "Status", "status": "Success"})

    def _watch(self, plural: str, query: dict[str, str]) -> Reply:
        since = query.get("resourceVersion", "")
        if not since.isdecimal() or int(since) > self._version:
            return _refused(400, "BadRequest", f"no watch begins at {since!r} here")
        if int(since) < self._forgotten and self.gone_at_once:
            return _gone(since)
        return Reply(200, self._events(plural, int(since), query))

    async def _events(
        self, plural: str, since: int, query: dict[str, str]
    ) -> AsyncGenerator[bytes, None]:
        if since < self._forgotten:
            yield _line("ERROR", _gone(str(since)).body)
            return
        wanted, bookmarks = _selected(query), query.get("allowWatchBookmarks") == "true"
        ends_at = asyncio.get_running_loop().time() + int(query["timeoutSeconds"]) * self.second
        queue: asyncio.Queue[_Happened | None] = asyncio.Queue()
        for each in self._history:
            if each.version > since:
                queue.put_nowait(each)
        self._watches.add(queue)
        try:
            while True:
                try:
                    async with asyncio.timeout_at(ends_at):
                        event = await queue.get()
                except TimeoutError:
                    break
                if event is None:
                    raise ConnectionError("cut")
                marks = event.type == "BOOKMARK" and bookmarks
                if event.plural == plural and (marks or wanted.items() <= event.labels.items()):
                    yield _line(event.type, event.object)
        finally:
            self._watches.discard(queue)
        if bookmarks:
            yield _line("BOOKMARK", self._bookmark(plural).object)

    def _happened(self, type_: str, plural: str, one: dict[str, Any]) -> None:
        self._version += 1
        one["metadata"]["resourceVersion"] = str(self._version)
        labels = one["metadata"].get("labels", {})
        event = _Happened(self._version, plural, type_, labels, _raw(one))
        self._history.append(event)
        self._tell(event)

    def _bookmark(self, plural: str) -> _Happened:
        api, kind = _KINDS[plural]
        metadata = {"resourceVersion": str(self._version), "creationTimestamp": None}
        object_ = {"apiVersion": api, "kind": kind, "metadata": metadata}
        return _Happened(self._version, plural, "BOOKMARK", {}, _raw(object_))

    def _tell(self, event: _Happened) -> None:
        for watch in self._watches:
            watch.put_nowait(event)


def _refused(status: int, reason: str, message: str) -> Reply:
    return Reply(
        status,
        {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "reason": reason,
            "message": message,
            "code": status,
        },
    )


def _gone(version: str) -> Reply:
    return _refused(410, "Expired", f"too old resource version: {version}")


def _selected(query: dict[str, str]) -> dict[str, str]:
    return dict(term.split("=") for term in query["labelSelector"].split(","))


def _raw(one: dict[str, Any]) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(one))


def _line(type_: str, one: Any) -> bytes:
    return msgspec.json.encode({"type": type_, "object": one}) + b"\n"


@asynccontextmanager
async def running() -> AsyncIterator[ApiServer]:
    """It answers as long as the block lasts."""
    server = ApiServer()
    async with serving(server.endpoint):
        yield server
