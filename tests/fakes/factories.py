"""Jobs and claims, named after the state they are in."""

from datetime import datetime, timedelta
from itertools import count

import msgspec

from mayfly.engine.admission import unchecked
from mayfly.model.access import Admitted, Decision, Reason, Refused, Scope
from mayfly.model.changes import Mint
from mayfly.model.deliveries import Attempt
from mayfly.model.demand import demand_for
from mayfly.model.jobs import (
    ASKED_FOR,
    InstallationId,
    JobId,
    JobKey,
    JobState,
    WorkflowJob,
    WorkflowJobEvent,
)
from mayfly.model.pools import Pool
from mayfly.model.protocol import ClaimOrder
from mayfly.model.runners import Claim, ClaimId
from mayfly.ports import Ledger
from tests.fakes.clocks import NOON

LINUX = ("self-hosted", "linux")
PREFIX = "mayfly"
UNBOUNDED = 100
_keys = count(1)


def event(
    job_id: int = 1,
    *,
    attempt: int = 1,
    state: JobState = JobState.QUEUED,
    owner: str = "octo",
    repository: str = "hello",
    labels: tuple[str, ...] = LINUX,
    installation: int | None = 7,
    runner: str | None = None,
    conclusion: str | None = None,
    age: float = 0.0,
    owner_is_organization: bool = True,
    run_id: int = 900,
    asked: bool = False,
) -> WorkflowJobEvent:
    """A `workflow_job` delivery; `age` is how many seconds before NOON GitHub queued the job.

    `asked`: not a delivery, but what GitHub answered.
    """
    began = NOON if state >= JobState.IN_PROGRESS else None
    return WorkflowJobEvent(
        key=JobKey(JobId(job_id), attempt),
        state=state,
        run_id=run_id,
        name=f"build-{job_id}",
        workflow="ci",
        labels=labels,
        installation=None if installation is None else InstallationId(installation),
        owner=owner,
        owner_is_organization=owner_is_organization,
        repository=repository,
        html_url=f"https://github.com/{owner}/{repository}/actions/runs/{run_id}/job/{job_id}",
        branch="main",
        conclusion=conclusion,
        created_at=NOON - timedelta(seconds=age),
        started_at=began,
        completed_at=NOON if state is JobState.COMPLETED else None,
        runner_name=runner,
        delivery=ASKED_FOR if asked else f"delivery-{job_id}-{attempt}-{state.word}",
    )


def admitted_to(event: WorkflowJobEvent, pool: str | None = None) -> Admitted:
    """What admission says of labels in the *sequence* convention, when a rule allows it."""
    return Admitted(
        pool=pool or (event.labels[1].lower() if len(event.labels) > 1 else "none"),
        variant=event.labels[2].lower() if len(event.labels) == 3 else None,
        scope=Scope(f"repos/{event.full_name}"),
        rule="a rule of the tests",
    )


REFUSED = Refused(reason=Reason.NOT_ALLOWED, sentence="no access rule lets it use the pool")


def job_of(
    event: WorkflowJobEvent, decision: Decision | None = None, received_at: datetime = NOON
) -> WorkflowJob:
    """The row for a delivery, admitted unless the test decides otherwise."""
    job = WorkflowJob(
        event=event,
        decision=decision or admitted_to(event),
        group=None,
        received_at=received_at,
    )
    demand = demand_for(job)
    return msgspec.structs.replace(job, group=demand.group if demand else None)


def waiting_job(job_id: int = 1, **facts: object) -> WorkflowJob:
    return _job(job_id, JobState.WAITING, **facts)


def queued_job(job_id: int = 1, **facts: object) -> WorkflowJob:
    return _job(job_id, JobState.QUEUED, **facts)


def running_job(job_id: int = 1, runner: str | None = None, **facts: object) -> WorkflowJob:
    return _job(job_id, JobState.IN_PROGRESS, runner=runner, **facts)


def completed_job(job_id: int = 1, runner: str | None = None, **facts: object) -> WorkflowJob:
    return _job(job_id, JobState.COMPLETED, runner=runner, conclusion="success", **facts)


def refused(job: WorkflowJob) -> WorkflowJob:
    """The same job, but nobody lets it use a pool."""
    return job_of(job.event, REFUSED)


def pending(job: WorkflowJob) -> WorkflowJob:
    """The same job, while the access rules cannot be read."""
    return job_of(job.event, unchecked(job.event, Pool(name="linux")))


def _job(job_id: int, state: JobState, **facts: object) -> WorkflowJob:
    return job_of(event(job_id, state=state, **facts))  # type: ignore[arg-type]  # `event` checks the names of its facts, tests their types


def attempt(
    number: int,
    *,
    guid: str | None = None,
    age: float = 0.0,
    status: int = 200,
    kind: str = "workflow_job",
    action: str = "queued",
) -> Attempt:
    """A try of GitHub to deliver; `age` is how many seconds before NOON."""
    return Attempt(
        id=number,
        guid=guid or f"guid-{number}",
        delivered_at=NOON - timedelta(seconds=age),
        event=kind,
        action=action,
        status_code=status,
        installation=InstallationId(7),
    )


def order(
    machine: str = "m1",
    *,
    boot: str = "boot-1",
    key: str | None = None,
    pool: str = "linux",
    variants: tuple[str, ...] = (),
    lease: str | None = None,
) -> ClaimOrder:
    """What an executor asks; a fresh key unless the test repeats one."""
    return ClaimOrder(
        pool=pool,
        machine=machine,
        boot=boot,
        key=key or f"key-{next(_keys)}",
        variants=variants,
        lease=lease,
    )


async def claimed(ledger: Ledger, machine: str = "m1", **facts: object) -> Claim:
    """A claim for which the ledger has work."""
    asked = order(machine, **facts)  # type: ignore[arg-type]  # as above
    made = await ledger.claim(asked, UNBOUNDED, None)
    assert made is not None, "the ledger had nothing to do"
    return made


async def minting_claim(ledger: Ledger, machine: str = "m1", **facts: object) -> Mint:
    """A claim whose runner's name is recorded, and GitHub not yet asked."""
    made = await claimed(ledger, machine, **facts)
    return await ledger.minting(made.id, made.boot, PREFIX)


async def registered_claim(
    ledger: Ledger, machine: str = "m1", *, github_id: int = 4711, **facts: object
) -> Mint:
    """A claim with an idle runner at GitHub."""
    mint = await minting_claim(ledger, machine, **facts)
    await ledger.registered(mint.claim.id, mint.claim.generation, github_id)
    return mint


async def busy_claim(ledger: Ledger, machine: str = "m1", *, job: int = 1) -> Mint:
    """A claim whose runner has a job, as GitHub has told."""
    mint = await registered_claim(ledger, machine)
    await ledger.record([running_job(job, runner=mint.name)])
    return mint


async def now_of(ledger: Ledger, claim: ClaimId) -> Claim:
    """The claim as the ledger has it now."""
    found, _ = await ledger.claimed(claim)
    return found
