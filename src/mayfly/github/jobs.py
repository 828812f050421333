"""Runs and jobs, asked about one at a time."""

import msgspec
import structlog

from mayfly.github import addresses
from mayfly.github.answers import Installation, RunRecord, read
from mayfly.github.calls import Request
from mayfly.github.records import STATE_OF_STATUS, JobRecord, Place, event_of, has_nul, without_nul
from mayfly.github.sessions import Sessions
from mayfly.model.errors import GitHubUnreachable
from mayfly.model.jobs import InstallationId, JobState, WorkflowJobEvent

log = structlog.get_logger()

_ASKED_FOR = "api"
"""Stands for the delivery of a job that GitHub was asked for."""
_NONE = frozenset({404})


class Jobs:
    """What GitHub knows of single runs and their jobs."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._on_organization: dict[InstallationId, bool] = {}

    async def of_run(
        self, installation: InstallationId, owner: str, repository: str, run: int, attempt: int
    ) -> list[WorkflowJobEvent]:
        """The jobs of one attempt; empty when GitHub has no such attempt."""
        address = addresses.of_repository(owner, repository)
        request = Request(
            "GET",
            f"{address.path}/actions/runs/{int(run)}/attempts/{int(attempt)}/jobs",
            address.asked(f"list the jobs of run {run}", addresses.ACTIONS),
            expected=_NONE,
        )
        place = await self._place(installation, owner, repository)
        items = [item async for item in self._sessions.pages(installation, request, "jobs")]
        return [event for item in items if (event := _event(item, place)) is not None]

    async def job(
        self, installation: InstallationId, owner: str, repository: str, job_id: int
    ) -> WorkflowJobEvent | None:
        """None when GitHub has no such job."""
        address = addresses.of_repository(owner, repository)
        request = Request(
            "GET",
            f"{address.path}/actions/jobs/{int(job_id)}",
            address.asked(f"look at job {job_id}", addresses.ACTIONS),
            expected=_NONE,
        )
        answer = await self._sessions.ask(installation, request)
        if answer.status == 404:
            return None
        event = _event(answer.data, await self._place(installation, owner, repository))
        if event is None:
            raise GitHubUnreachable(f"could not {request.asked.what}: GitHub's answer is no job")
        return event

    async def run(
        self, installation: InstallationId, owner: str, repository: str, run: int
    ) -> RunRecord | None:
        """None when GitHub has no such run."""
        address = addresses.of_repository(owner, repository)
        request = Request(
            "GET",
            f"{address.path}/actions/runs/{int(run)}",
            address.asked(f"look at run {run}", addresses.ACTIONS),
            expected=_NONE,
        )
        answer = await self._sessions.ask(installation, request)
        return None if answer.status == 404 else read(answer.data, RunRecord, request.asked.what)

    async def _place(self, installation: InstallationId, owner: str, repository: str) -> Place:
        # A job from the API does not say what its owner is; the installation does, and never else.
        if installation not in self._on_organization:
            asked = self._sessions.as_app(
                "look at the installation", f"installation {installation}"
            )
            request = Request("GET", f"app/installations/{int(installation)}", asked)
            answer = await self._sessions.ask(None, request)
            found = read(answer.data, Installation, asked.what)
            self._on_organization[installation] = found.on_organization
        return Place(
            owner=owner,
            owner_is_organization=self._on_organization[installation],
            repository=repository,
            installation=installation,
        )


def _event(item: object, place: Place) -> WorkflowJobEvent | None:
    try:
        record = msgspec.convert(item, JobRecord)
        # A status we do not know is not counted, but asked about again.
        state = STATE_OF_STATUS.get(record.status, JobState.WAITING)
        event = event_of(record, state, place, _ASKED_FOR)
    except (msgspec.ValidationError, OverflowError) as error:
        # One record we cannot read must not hide the others.
        log.warning(
            "job.skipped", repository=f"{place.owner}/{place.repository}", reason=str(error)
        )
        return None
    return without_nul(event) if event is not None and has_nul(event) else event
