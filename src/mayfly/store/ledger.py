"""The ledger's verbs: each loads rows, decides by the model, and applies guarded changes."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from mayfly.model.access import Scope
from mayfly.model.changes import Changes, Due, Mint, PoolUse, Recount
from mayfly.model.deadlines import Deadlines
from mayfly.model.deliveries import LogPosition
from mayfly.model.demand import DemandGroup
from mayfly.model.errors import NotFound, StaleClaim
from mayfly.model.executors import Choice, Command, Executor, Standing
from mayfly.model.jobs import GroupId, InstallationId, JobId, JobKey, WorkflowJob
from mayfly.model.protocol import AttendOrder, ClaimOrder, Order, Outcome
from mayfly.model.releases import Release, Version
from mayfly.model.repositories import Repository
from mayfly.model.runners import Claim, ClaimId, Registration, RunKey, Sighting
from mayfly.ports import Clock, Launches
from mayfly.store import (
    attendance,
    blame,
    checking,
    claiming,
    counting,
    launching,
    proofs,
    recording,
    repairs,
    retention,
)
from mayfly.store.launches import TransactionalLaunches
from mayfly.store.tables import Tables, Transactions
from mayfly.store.turns import Turn

T = TypeVar("T")


class TransactionalLedger:
    """ports.Ledger over any Transactions; the policy stands here once for all backends."""

    def __init__(self, transactions: Transactions, clock: Clock, deadlines: Deadlines) -> None:
        self._transactions = transactions
        self._clock = clock
        self._deadlines = deadlines
        self._instances: set[str] = set()
        self.launches: Launches = TransactionalLaunches(transactions, clock, deadlines)

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

    async def entrusted(self, claim: ClaimId, generation: int) -> None:
        def step(tables: Tables) -> bool:
            return claiming.entrusted(Turn(tables, self._deadlines), claim, generation)

        if not await self._transactions.write(step):
            raise StaleClaim(f"claim {claim} has moved on since generation {generation}")

    async def delayed(self, claim: ClaimId, sentence: str) -> Changes:
        return await self._turn(lambda turn: claiming.delayed(turn, claim, sentence))

    async def refused(self, claim: ClaimId, sentence: str) -> Changes:
        return await self._turn(lambda turn: claiming.refused(turn, claim, sentence))

    async def heartbeat(self, claim: ClaimId, boot: str) -> Order:
        def step(tables: Tables) -> Order:
            turn = Turn(tables, self._deadlines)
            return claiming.heartbeat(turn, _own(tables, claim, boot))

        return await self._transactions.write(step)

    async def finish(
        self, claim: ClaimId, boot: str, outcome: Outcome, detail: str, *, token_spent: bool = False
    ) -> Changes:
        def act(turn: Turn) -> None:
            own = _own(turn.tables, claim, boot)
            claiming.finish(turn, own, outcome, detail, token_spent=token_spent)

        return await self._turn(act)

    async def started(self, claim: ClaimId, boot: str, run: RunKey) -> Changes:
        return await self._turn(
            lambda turn: claiming.started(turn, _own(turn.tables, claim, boot), run)
        )

    async def attend(self, pool: str, order: AttendOrder) -> Executor:
        now = self._clock.now()

        def step(tables: Tables) -> Executor:
            turn = Turn(tables, self._deadlines)
            heard = attendance.attend(turn, pool, order, now)
            told = launching.attended(turn, heard, order)
            if told is not heard:
                tables.executors.put(told)
            return told

        return await self._transactions.write(step)

    async def command(self, told: Command, choice: Choice, reason: str) -> list[Standing]:
        return await self._transactions.write(
            lambda tables: attendance.command(Turn(tables, self._deadlines), told, choice, reason)
        )

    async def executors(self, pool: str | None = None) -> list[Standing]:
        return await self._transactions.read(
            lambda tables: attendance.every(tables, self._deadlines, pool)
        )

    async def told(self) -> list[Executor]:
        return await self._transactions.read(
            lambda tables: [one for one in tables.executors.every(None) if one.is_told]
        )

    async def overdue(self, claim: ClaimId) -> Changes:
        return await self._turn(lambda turn: repairs.overdue(turn, claim))

    async def checked(self, job: JobKey, answer: WorkflowJob | None) -> Changes:
        return await self._turn(lambda turn: checking.checked(turn, job, answer))

    async def postponed(self, job: JobKey) -> None:
        await self._turn(lambda turn: checking.postponed(turn, job))

    async def saw(self, registration: str, sighting: Sighting) -> Changes:
        return await self._turn(lambda turn: proofs.saw(turn, registration, sighting))

    async def relieve(self, claim: ClaimId) -> Changes:
        return await self._turn(lambda turn: repairs.relieve(turn, claim))

    async def lose(self, claim: ClaimId) -> Changes:
        return await self._turn(lambda turn: repairs.lose(turn, claim))

    async def tick(self, instance: str, period: timedelta) -> float | None:
        leads = await self._transactions.leads(period)
        if leads is False:
            return None
        self._instances.add(instance)
        mates = self._instances if leads else None
        now = self._clock.now()
        return await self._transactions.write(
            lambda tables: repairs.tick(tables, instance, period, now, mates)
        )

    async def resign(self, instance: str) -> None:
        if await self._transactions.write(lambda tables: repairs.resign(tables, instance)):
            await self._transactions.resign()

    async def due(self, limit: int) -> Due:
        return await self._transactions.read(
            lambda tables: repairs.due(tables, self._deadlines, limit)
        )

    async def recount(self, after: GroupId | None) -> Recount | None:
        return await self._transactions.write(lambda tables: counting.recount(tables, after))

    async def retry(self, group: GroupId) -> Changes:
        return await self._turn(lambda turn: blame.retry(turn, _group(turn.tables, group)))

    async def revived(self, installation: InstallationId) -> Changes:
        def act(turn: Turn) -> None:
            blame.revived(turn, installation)
            proofs.answers_again(turn, installation)

        return await self._turn(act)

    async def forget(self, limit: int) -> int:
        return await self._transactions.write(
            lambda tables: retention.forget(tables, self._deadlines, limit)
        )

    async def log_position(self) -> LogPosition | None:
        return await self._transactions.read(lambda tables: tables.clock().log_position)

    async def log_read(self, position: LogPosition) -> None:
        def step(tables: Tables) -> None:
            tables.hold(clock=True)
            clock = tables.clock()
            if clock.log_position is None or clock.log_position.at <= position.at:
                tables.put_clock(clock._replace(log_position=position))

        await self._transactions.write(step)

    async def offered(self, version: Version) -> None:
        release = Release(version, self._clock.now())
        await self._transactions.write(lambda tables: tables.add_release(release))

    async def releases(self) -> list[Release]:
        return await self._transactions.read(lambda tables: tables.releases())

    async def repositories(self, since: datetime) -> list[Repository]:
        return await self._transactions.read(lambda tables: tables.repositories(since))

    async def scopes(self, since: datetime) -> list[tuple[InstallationId, Scope]]:
        return await self._transactions.read(lambda tables: tables.scopes(since))

    async def watches(self, runner: str) -> bool:
        return await self._transactions.read(lambda tables: tables.registration(runner) is not None)

    async def stalled(self, limit: int) -> list[DemandGroup]:
        return await self._transactions.read(lambda tables: tables.stalled_groups(limit))

    async def job(self, key: JobKey) -> WorkflowJob | None:
        return await self._transactions.read(lambda tables: tables.attempts([key.id]).get(key))

    async def jobs(self, limit: int, pool: str | None = None) -> list[WorkflowJob]:
        return await self._transactions.read(lambda tables: tables.newest_jobs(limit, pool))

    async def queued(self, limit: int, after: JobKey | None = None) -> list[WorkflowJob]:
        return await self._transactions.read(lambda tables: tables.queued_jobs(limit, after))

    async def pending(self, limit: int) -> list[WorkflowJob]:
        return await self._transactions.read(lambda tables: tables.pending_jobs(limit))

    async def attempts(self, job_id: JobId) -> list[WorkflowJob]:
        def step(tables: Tables) -> list[WorkflowJob]:
            found = tables.attempts([job_id])
            return [found[key] for key in sorted(found, reverse=True)]

        return await self._transactions.read(step)

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
        return await self._transactions.read(
            lambda tables: tables.pools(tables.clock().ledger_seconds)
        )

    async def _turn(self, act: Callable[[Turn], None]) -> Changes:
        def step(tables: Tables) -> Changes:
            turn = Turn(tables, self._deadlines)
            act(turn)
            return turn.close()

        return await self._transactions.write(step)


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
