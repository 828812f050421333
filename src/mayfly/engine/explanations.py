"""Explanations: why a job waits, was refused, or got the runner it got."""

from collections.abc import Callable, Sequence

import msgspec

from mayfly.model.access import Refused
from mayfly.model.changes import PoolUse
from mayfly.model.demand import DemandGroup
from mayfly.model.errors import NotFound
from mayfly.model.executors import Activity, Service, Standing
from mayfly.model.jobs import JobId, JobState, WorkflowJob
from mayfly.model.launches import LaunchRecord
from mayfly.model.pools import Pool
from mayfly.model.releases import Outlook
from mayfly.model.runners import ClaimState
from mayfly.model.scaling import told
from mayfly.ports import Ledger

NAMED = 3
"""Machines a sentence names at most."""
LAUNCHES = 50
NEWEST = 500
"""Live claims that are looked through."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """One job, one sentence, and the evidence for it."""

    job_id: int
    attempt: int
    repository: str
    name: str
    labels: tuple[str, ...]
    state: str
    summary: str
    facts: tuple[str, ...]


async def launches_of(ledger: Ledger, pool: Pool) -> list[LaunchRecord]:
    """The newest of an elastic pool; of another one there are none."""
    return [] if pool.launcher is None else await ledger.launches.newest(LAUNCHES, pool.name)


class Explanations:
    """Answers from the ledger, and from what is known of the pool's runners; asks nobody."""

    def __init__(
        self,
        ledger: Ledger,
        pools: tuple[Pool, ...],
        outlook: Callable[[str], Outlook | None],
    ) -> None:
        self._ledger = ledger
        self._pools = {pool.name: pool for pool in pools}
        self._outlook = outlook

    async def explain(self, job_id: int) -> Explanation:
        """The newest attempt of a job; NotFound when the ledger has none."""
        attempts = await self._ledger.attempts(JobId(job_id))
        if not attempts:
            raise NotFound(
                f"job {job_id} is not in the ledger: no delivery about it has arrived; "
                "check the App's webhook and its recent deliveries at GitHub"
            )
        job = attempts[0]
        summary, facts = await self._why(job)
        event = job.event
        return Explanation(
            job_id=event.key.id,
            attempt=event.key.attempt,
            repository=event.full_name,
            name=event.name,
            labels=event.labels,
            state=job.state.word,
            summary=summary,
            facts=(*facts, f"first heard of at {job.received_at:%Y-%m-%d %H:%M:%S} UTC"),
        )

    async def _why(self, job: WorkflowJob) -> tuple[str, list[str]]:
        decision = job.decision
        if isinstance(decision, Refused):
            word = "pending a check" if job.pending else "refused"
            return f"{word}: {decision.sentence}", [f"reason: {decision.reason.value}"]
        facts = [f"admitted to pool {decision.pool} by {decision.rule}"]
        match job.state:
            case JobState.WAITING:
                return "GitHub holds it back, for an approval or a concurrency limit", facts
            case JobState.QUEUED if job.doubted:
                return "GitHub has to confirm that it is still queued, and is asked soon", facts
            case JobState.QUEUED:
                summary, more = await self._waiting(job, decision.pool)
                return summary, facts + more
            case _:
                return await self._began(job), facts

    async def _waiting(self, job: WorkflowJob, pool_name: str) -> tuple[str, list[str]]:
        pool, group = self._pools.get(pool_name), None
        if job.group is not None:
            group = await self._ledger.group(job.group)
        if pool is None or group is None:
            return f"waiting, but pool {pool_name!r} is not in mayfly.toml any more", []
        use = (await self._ledger.pools()).get(pool_name, PoolUse(0, 0, 0))
        ahead = await self._ledger.ahead(job)
        facts = [
            f"{ahead} older job(s) of the same repository and labels wait before it",
            f"pool {pool.name}: {use.used} of {pool.max} runners in use, {use.open} to be made",
            f"its group: {group.queued} queued, {group.supply} runner(s) on the way",
        ]
        outlook = self._outlook(pool_name)
        if outlook is not None and outlook.outdated:
            facts.append(outlook.sentence)
        if group.trouble and not group.fails:
            facts.append(f"a runner was given up in favour of other owners': {group.trouble}")
        if (stall := _stall(job, group)) is not None:
            return stall, facts
        if group.fails:
            facts.append(f"runners that failed in a row: {group.fails}; the last: {group.trouble}")
        summary = _bottleneck(ahead, pool, use, group, await self._ledger.executors(pool_name))
        if group.supply <= ahead and (words := told(await launches_of(self._ledger, pool))):
            summary = f"waiting: {words}"
        if group.supply > ahead and (trouble := await self._trouble(group)):
            summary = f"{summary}, with trouble so far: {trouble}"
        if outlook is not None and outlook.refused:
            summary = f"{summary}; {outlook.sentence}"
        return summary, facts

    async def _trouble(self, group: DemandGroup) -> str:
        """What keeps the runner from being minted, though it is tried again; empty: nothing."""
        claims = await self._ledger.claims(NEWEST, live=True)
        minting = (one for one in claims if one.state is ClaimState.MINTING)
        return next((one.detail for one in minting if one.group == group.id and one.detail), "")

    async def _began(self, job: WorkflowJob) -> str:
        event = job.event
        verb = "running" if job.state is JobState.IN_PROGRESS else f"ended ({event.conclusion})"
        if event.runner_name is None:
            return f"{verb}; no runner took it"
        claim = await self._ledger.named(event.runner_name)
        if claim is None:
            return f"{verb} on {event.runner_name}, which is not a runner of this Mayfly"
        return f"{verb} on {event.runner_name}, made on machine {claim.machine}"


def _stall(job: WorkflowJob, group: DemandGroup) -> str | None:
    """Why no runner is made although one is wanted; None when one may be."""
    if group.stalled:
        return (
            f"stalled because {group.fails} runners in a row failed: {group.trouble}; it is tried "
            f"once an hour, and at once after: mayfly jobs retry {job.key.id}"
        )
    if group.fails and group.retry_at is not None and not group.supply:
        times = "once" if group.fails == 1 else f"{group.fails} times in a row"
        return f"making a runner failed {times} and is tried again soon: {group.trouble}"
    return None


def _bottleneck(
    ahead: int, pool: Pool, use: PoolUse, group: DemandGroup, executors: Sequence[Standing]
) -> str:
    if group.supply > ahead:
        return "a runner for it is being made"
    if use.used >= pool.max:
        return f"waiting: all {pool.max} runners of pool {pool.name} are in use"
    if executors and not any(one.serves for one in executors):
        return f"waiting: no machine serves pool {pool.name}; {_unserving(executors)}"
    return f"waiting for an executor of pool {pool.name} to take it; is one running?"


def _unserving(executors: Sequence[Standing]) -> str:
    """Why they do not serve; those that are there and could be returned first."""
    told = [
        f"{one.executor.machine} is {Activity.ABSENT if one.service is Service.IN else one.service}"
        + (f" ({one.executor.reason})" if one.executor.reason else "")
        for one in sorted(executors, key=lambda one: one.absent)
    ]
    more = [f"and {len(told) - NAMED} more"] if len(told) > NAMED else []
    return "; ".join([*told[:NAMED], *more, "see: mayfly executors list"])
