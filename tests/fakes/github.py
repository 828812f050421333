"""GitHub at the port: it mints, deletes, fails before or after taking effect, and can be slow."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from mayfly.model.access import Scope
from mayfly.model.deliveries import Attempt
from mayfly.model.errors import GitHubRefused, GitHubUnreachable, MayflyError, RefusalKind
from mayfly.model.jobs import InstallationId, WorkflowJobEvent
from mayfly.model.releases import Offer, Version
from mayfly.model.repositories import Repository, Run, Runs
from mayfly.model.runners import GitHubRunner, Minted, RegistrationToken, Sighting


def offer(version: Version) -> Offer:
    """As GitHub offers a release for the usual machine."""
    filename = f"actions-runner-linux-x64-{version}.tar.gz"
    url = f"https://github.test/actions/runner/releases/download/v{version}/{filename}"
    return Offer(os="linux", architecture="x64", filename=filename, url=url, sha256="0" * 64)


class _Failure(NamedTuple):
    error: MayflyError
    after: bool


class FakeGitHub:
    """ports.GitHub over a dictionary of runners."""

    def __init__(self) -> None:
        self.registered: dict[str, GitHubRunner] = {}
        self.busy: set[str] = set()
        self.calls: list[tuple[str, str]] = []
        """(verb, subject) in the order GitHub was asked."""
        self.jobs: dict[tuple[int, int], list[WorkflowJobEvent]] = {}
        """By run and attempt."""
        self.log: list[Attempt] = []
        """The delivery log, newest first."""
        self.payloads: dict[int, WorkflowJobEvent | None] = {}
        """What an attempt delivered; what is not in here, the log does not have any more."""
        self.redelivered: list[int] = []
        """The attempts GitHub was asked to repeat."""
        self.seen: list[Repository] = []
        """The repositories of all installations."""
        self.open_runs: dict[tuple[str, str], list[Run]] = {}
        """By `owner/repository` and status, newest first."""
        self.newest: Version | None = None
        """The release GitHub offers."""
        self._failures: defaultdict[str, list[_Failure]] = defaultdict(list)
        self._gates: dict[str, asyncio.Event] = {}
        self._asked: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._ids = 100

    def fail_before(self, verb: str, error: MayflyError | None = None) -> None:
        """The next call of `verb` changes nothing and raises."""
        self._failures[verb].append(_Failure(error or _TIMED_OUT, after=False))

    def fail_after(self, verb: str, error: MayflyError | None = None) -> None:
        """The next call of `verb` takes effect and raises all the same."""
        self._failures[verb].append(_Failure(error or _TIMED_OUT, after=True))

    def hold(self, verb: str) -> None:
        """Calls of `verb` do not end before `release`."""
        self._gates[verb] = asyncio.Event()

    async def held(self, verb: str) -> None:
        """Until somebody waits in `verb`."""
        async with asyncio.timeout(30):
            await self._asked[verb].wait()

    def release(self, verb: str) -> None:
        self._gates.pop(verb).set()

    def connect(self, name: str, version: Version) -> None:
        """The runner is online, and says which version it is."""
        self.registered[name] = self.registered[name]._replace(status="online", version=version)

    def start_job_on(self, name: str) -> None:
        """The runner has a job: deleting it answers 422."""
        self.busy.add(name)

    def verbs(self, *wanted: str) -> list[str]:
        return [verb for verb, _ in self.calls if not wanted or verb in wanted]

    async def mint(
        self, installation: InstallationId, scope: Scope, name: str, labels: Sequence[str]
    ) -> Minted:
        failure = await self._begin("mint", name)
        self._ids += 1
        self.registered[name] = GitHubRunner(self._ids, name, "offline", False, tuple(labels))
        self._end(failure)
        return Minted(self._ids, f"jit-config-of-{name}")

    async def registration_token(
        self, installation: InstallationId, scope: Scope
    ) -> RegistrationToken:
        self._end(await self._begin("registration_token", scope))
        return RegistrationToken("a-registration-token", f"https://github.com/{scope[6:]}")

    def configure(self, name: str, *labels: str) -> None:
        """Somebody with a registration token has registered a runner of this name."""
        self._ids += 1
        self.registered[name] = GitHubRunner(self._ids, name, "offline", False, labels)

    async def find_runner(
        self, installation: InstallationId, scope: Scope, name: str
    ) -> GitHubRunner | None:
        self._end(await self._begin("find_runner", name))
        return self.registered.get(name)

    async def delete_runner(
        self, installation: InstallationId, scope: Scope, runner_id: int
    ) -> Sighting:
        found = next((one for one in self.registered.values() if one.id == runner_id), None)
        failure = await self._begin("delete_runner", found.name if found else str(runner_id))
        if found is not None and found.name in self.busy:
            self._end(failure)
            return Sighting.BUSY
        if found is not None:
            del self.registered[found.name]
        self._end(failure)
        return Sighting.GONE if found is None else Sighting.DELETED

    async def run_jobs(
        self, installation: InstallationId, owner: str, repository: str, run: int, attempt: int
    ) -> list[WorkflowJobEvent]:
        self._end(await self._begin("run_jobs", f"{owner}/{repository}"))
        return self.jobs.get((run, attempt), [])

    async def get_job(
        self, installation: InstallationId, owner: str, repository: str, job_id: int
    ) -> WorkflowJobEvent | None:
        self._end(await self._begin("get_job", str(job_id)))
        every = [event for events in self.jobs.values() for event in events]
        return next((event for event in every if event.key.id == job_id), None)

    async def runners(self) -> AsyncIterator[tuple[InstallationId, Scope, GitHubRunner]]:
        failure = await self._begin("runners", "")
        for runner in self.registered.values():
            yield InstallationId(7), Scope("repos/octo/hello"), runner
        self._end(failure)

    async def runners_of(self, installation: InstallationId, scope: Scope) -> list[GitHubRunner]:
        self._end(await self._begin("runners_of", scope))
        return list(self.registered.values())

    async def offers(self, installation: InstallationId, scope: Scope) -> list[Offer]:
        self._end(await self._begin("offers", scope))
        return [offer(self.newest)] if self.newest else []

    async def deliveries(self) -> AsyncIterator[Attempt]:
        for first in range(0, len(self.log) or 1, _PAGE):
            self._end(await self._begin("deliveries", f"page {first // _PAGE + 1}"))
            for attempt in self.log[first : first + _PAGE]:
                yield attempt

    async def delivery(self, attempt: int) -> WorkflowJobEvent | None:
        self._end(await self._begin("delivery", str(attempt)))
        if attempt not in self.payloads:
            raise _gone(attempt)
        return self.payloads[attempt]

    async def redeliver(self, attempt: int) -> None:
        failure = await self._begin("redeliver", str(attempt))
        if all(one.id != attempt for one in self.log):
            raise _gone(attempt)
        self.redelivered.append(attempt)
        self._end(failure)

    async def repositories(self) -> AsyncIterator[Repository]:
        failure = await self._begin("repositories", "")
        for repository in self.seen:
            yield repository
        self._end(failure)

    async def repositories_of(self, installation: InstallationId) -> list[Repository]:
        self._end(await self._begin("repositories_of", str(installation)))
        return [one for one in self.seen if one.installation == installation]

    async def runs(self, repository: Repository, status: str, etag: str | None) -> Runs | None:
        self._end(await self._begin("runs", f"{repository.full_name} {status}"))
        found = self.open_runs.get((repository.full_name, status), [])
        # The same runs have the same ETag, and no others do.
        current = f'W/"{[*map(tuple, found)]!r}"'
        return None if etag == current else Runs(list(found[:_PAGE]), current)

    async def _begin(self, verb: str, subject: str) -> _Failure | None:
        self.calls.append((verb, subject))
        if gate := self._gates.get(verb):
            self._asked[verb].set()
            await gate.wait()
        failures = self._failures[verb]
        failure = failures.pop(0) if failures else None
        if failure is not None and not failure.after:
            raise failure.error
        return failure

    def _end(self, failure: _Failure | None) -> None:
        if failure is not None:
            raise failure.error


def _gone(attempt: int) -> GitHubRefused:
    sentence = f"could not look at delivery {attempt}: GitHub does not have it any more"
    return GitHubRefused(RefusalKind.DELIVERY_GONE, sentence)


_PAGE = 100
_TIMED_OUT = GitHubUnreachable("GitHub did not answer in time")
