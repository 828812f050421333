"""The ledger's verbs: each loads rows, decides by the model, and applies guarded changes."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TypeVar

import msgspec

from mayfly.model.access import Refused
from mayfly.model.changes import Changes, Due, Mint, PoolUse
from mayfly.model.deadlines import Deadlines
from mayfly.model.demand import DemandGroup
from mayfly.model.errors import NotFound, StaleClaim
from mayfly.model.jobs import GroupId, JobKey, WorkflowJob
from mayfly.model.protocol import ClaimOrder, Order, Outcome
from mayfly.model.runners import Claim, ClaimId, ClaimState, Registration, Sighting
from mayfly.ports import Clock
from mayfly.store import claiming, recording, repairs
from mayfly.store.tables import Tables, Transactions
from mayfly.store.turns import Turn

T = TypeVar("T")


class TransactionalLedger:
    """ports.Ledger over any Transactions; the policy stands here once for all backends."""

    def __init__(self, transactions: Transactions, clock: Clock, deadlines: Deadlines) -> None:
        self._transactions = transactions
        self._clock = clock
        self._deadlines = deadlines

    async def record(self, jobs: Sequence[WorkflowJob]) -> Changes:
        return await self._turn(lambda turn: recording.record(turn, jobs))

    async def redecide(self, jobs: Sequence[WorkflowJob]) -> Changes:
        return await self._turn(lambda turn: recording.redecide(turn, jobs))

    async def claim(self, order: ClaimOrder, maximum: int, per_owner: int | None) -> Claim | None:
        fresh, now = ClaimId(self._clock.new_id()), self._clock.now()

        def step(tables: Tables) -> Claim | None:
            turn = Turn(tables, self._deadlines)
            made = claiming.claim(turn, order, maximum, per_owner, fresh, now)
            turn.close()
            return made

        return await self._transactions.write(step)

    async def minting(self, claim: ClaimId, boot: str, prefix: str) -> Mint:
        def step(tables: Tables) -> Mint | None:
            turn = Turn(tables, self._deadlines)
            mint = claiming.minting(turn, _own(tables, claim, boot), prefix)
            turn.close()
            return mint

        mint = await self._transactions.write(step)
        if mint is None:
            raise StaleClaim(f"claim {claim} is not needed any more and was withdrawn")
        return mint

    async def registered(self, claim: ClaimId, generation: int, github_id: int) -> None:
        def step(tables: Tables) -> bool:
            turn = Turn(tables, self._deadlines)
            current = claiming.registered(turn, claim, generation, github_id)
            turn.close()
            return current

        if not await self._transactions.write(step):
            raise StaleClaim(f"claim {claim} has moved on since generation {generation}")

    async def refused(self, claim: ClaimId, sentence: str) -> Changes:
        return await self._turn(lambda turn: claiming.refused(turn, claim, sentence))

    async def heartbeat(self, claim: ClaimId, boot: str) -> Order:
        def step(tables: Tables) -> Order:
            heard = _own(tables, claim, boot)
            at = tables.clock().ledger_seconds
            tables.put_claim(msgspec.structs.replace(heard, heard_at=at))
            if heard.live:
                return Order.STOP if _has_refused_job(tables, heard) else Order.CONTINUE
            ending = heard.state is ClaimState.DONE
            if ending and at - heard.state_at < self._deadlines.ended_seconds:
                return Order.CONTINUE
            return Order.STOP

        return await self._transactions.write(step)

    async def finish(self, claim: ClaimId, boot: str, outcome: Outcome, detail: str) -> Changes:
        return await self._turn(
            lambda turn: claiming.finish(turn, _own(turn.tables, claim, boot), outcome, detail)
        )

    async def saw(self, registration: str, sighting: Sighting) -> Changes:
        return await self._turn(lambda turn: repairs.saw(turn, registration, sighting))

    async def relieve(self, claim: ClaimId) -> Changes:
        return await self._turn(lambda turn: repairs.relieve(turn, claim))

    async def lose(self, claim: ClaimId) -> Changes:
        return await self._turn(lambda turn: repairs.lose(turn, claim))

    async def tick(self, instance: str, period: timedelta) -> float | None:
        now = self._clock.now()
        return await self._transactions.write(
            lambda tables: repairs.tick(tables, instance, period, now)
        )

    async def due(self, limit: int) -> Due:
        return await self._transactions.read(
            lambda tables: repairs.due(tables, self._deadlines, limit)
        )

    async def job(self, key: JobKey) -> WorkflowJob | None:
        return await self._transactions.read(lambda tables: tables.jobs([key]).get(key))

    async def jobs(self, limit: int, pool: str | None = None) -> list[WorkflowJob]:
        return await self._transactions.read(lambda tables: tables.newest_jobs(limit, pool))

    async def queued(self, limit: int, after: JobKey | None = None) -> list[WorkflowJob]:
        return await self._transactions.read(lambda tables: tables.queued_jobs(limit, after))

    async def attempts(self, job_id: int) -> list[WorkflowJob]:
        return await self._transactions.read(lambda tables: tables.attempts(job_id))

    async def ahead(self, job: WorkflowJob) -> int:
        return await self._transactions.read(lambda tables: tables.ahead(job))

    async def claims(self, limit: int, *, live: bool) -> list[Claim]:
        return await self._transactions.read(lambda tables: tables.newest_claims(limit, live=live))

    async def claimed(self, claim: ClaimId) -> tuple[Claim, DemandGroup]:
        def step(tables: Tables) -> tuple[Claim, DemandGroup]:
            found = _claim(tables, claim)
            return found, _group(tables, found.group)

        return await self._transactions.read(step)

    async def group(self, group: GroupId) -> DemandGroup | None:
        return await self._transactions.read(lambda tables: tables.group(group))

    async def named(self, runner: str) -> Claim | None:
        return await self._transactions.read(lambda tables: recording.claim_named(tables, runner))

    async def unproven(self) -> list[Registration]:
        return await self._transactions.read(lambda tables: tables.registrations())

    async def pools(self) -> Mapping[str, PoolUse]:
        return await self._transactions.read(lambda tables: tables.pools())

    async def _turn(self, act: Callable[[Turn], None]) -> Changes:
        def step(tables: Tables) -> Changes:
            turn = Turn(tables, self._deadlines)
            act(turn)
            return turn.close()

        return await self._transactions.write(step)


def _has_refused_job(tables: Tables, claim: Claim) -> bool:
    """GitHub gave the runner a job that was never admitted, and no guard held it back (R12)."""
    job = tables.jobs([claim.job]).get(claim.job) if claim.job else None
    return job is not None and isinstance(job.decision, Refused)


def _claim(tables: Tables, claim: ClaimId) -> Claim:
    found = tables.claim(claim)
    if found is None:
        raise NotFound(f"there is no claim {claim} in the ledger")
    return found


def _group(tables: Tables, group: GroupId) -> DemandGroup:
    found = tables.group(group)
    if found is None:
        raise NotFound(f"there is no demand group {group} in the ledger")
    return found


def _own(tables: Tables, claim: ClaimId, boot: str) -> Claim:
    """The claim, if this run of the executor made it."""
    found = tables.claim(claim)
    if found is None or found.boot != boot:
        raise StaleClaim(f"claim {claim} is not of this run of the executor")
    return found
