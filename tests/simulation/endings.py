"""Endings: what must be true of a world some time after its faults have ended."""

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from mayfly.model.access import Admitted
from mayfly.model.jobs import JobState
from mayfly.model.runners import Claim, ClaimId
from mayfly.store.ledger import TransactionalLedger
from tests.fakes.counters import recount_of
from tests.simulation.accounts import Access
from tests.simulation.jobs import Job
from tests.simulation.world import World


class Left(Enum):
    """What kind of thing is left when all should be over."""

    LOST = "an admitted job that is not served"
    LEAKED = "a runner at GitHub without a live claim"
    UNPROVEN = "a name on the worklist"
    OPEN = "a row of a job that is over at GitHub"
    REST = "something that may still be at work"


class Unfinished(NamedTuple):
    """Something that is not as it should be when all is over."""

    kind: Left
    subject: str
    state: str

    @property
    def sentence(self) -> str:
        return f"{self.subject} {self.state}"


def unfinished(world: World) -> list[Unfinished]:
    """Empty when every job was served and nothing of it is left anywhere (1, 2, 8)."""
    return [
        *_jobs(world),
        *_registrations(world),
        *_names(world),
        *_claims(world),
        *_rows(world),
    ]


async def broken_promises(world: World) -> list[str]:
    """What must hold of the whole history, looked at once at its end (4, 5, 7, 9)."""
    found = list(_configs(world))
    found += [f"past the guard: {each}" for each in world.verdicts.past_the_guard]
    found += _doorbells(world)
    ledger = TransactionalLedger(world.database.transactions, world.clock, world.around.deadlines)
    stored, counted = recount_of(ledger, "memory:")
    if stored != counted:
        found.append(f"counters at the end: stored {stored}, counted {counted}")
    return found


def _jobs(world: World) -> Iterator[Unfinished]:
    for job in world.jobs.every:
        if job.over or not job.repository.owner.reachable:
            continue
        if job.state is not JobState.QUEUED:
            yield Unfinished(Left.REST, f"job {job}", f"is {job.state.word} at GitHub")
        elif world.verdicts.admitted(job) and not truly_stalled(world, job):
            state = "is queued at GitHub, admitted and not served"
            yield Unfinished(Left.LOST, f"job {job}", state)


def truly_stalled(world: World, job: Job) -> bool:
    """Its group says so, and there was a machine to fail on, or an owner who kept the App out."""
    row = world.database.tables._jobs.get(job.key)
    group = world.database.tables._groups.get(row.group) if row and row.group else None
    if group is None or not group.stalled:
        return False
    broken = any(machine.broken for machine in world.machines if machine.pool == group.pool)
    return broken or job.repository.owner.kept_out


def undiscovered(world: World, job: Job) -> bool:
    """Nothing was ever said of it; idle repositories are swept in turn, one after the other."""
    return job in world.deliveries.untold and job.key not in world.database.tables._jobs


def _registrations(world: World) -> Iterator[Unfinished]:
    claims = world.database.tables._claims
    for runner in world.runners.all():
        claim = claims.get(ClaimId(runner.name.split("-")[1]))
        if world.accounts.access_of(runner.installation) is not Access.INSTALLED:
            continue
        subject = f"runner {runner.name}"
        if claim is not None and claim.live:
            yield Unfinished(Left.REST, subject, f"is registered, its claim {claim.state}")
        else:
            yield Unfinished(Left.LEAKED, subject, "is registered without a live claim")


def _names(world: World) -> Iterator[Unfinished]:
    for name, registration in world.database.tables._registrations.items():
        claim = world.database.tables._claims.get(registration.claim)
        if claim is None or _reachable(world, claim):
            current = claim and claim.live and registration.generation == claim.generation
            kind = Left.REST if current else Left.UNPROVEN
            yield Unfinished(kind, f"name {name}", f"is not proven gone: {registration}")


def _claims(world: World) -> Iterator[Unfinished]:
    for claim in world.database.tables._claims.values():
        if claim.live and _reachable(world, claim):
            state = f"is {claim.state} on {claim.machine}"
            yield Unfinished(Left.REST, f"claim {claim.id}", state)


def _rows(world: World) -> Iterator[Unfinished]:
    at_github: dict[tuple[int, int], Job] = {job.key: job for job in world.jobs.every}
    for key, row in world.database.tables._jobs.items():
        job = at_github[key]
        if row.state is JobState.COMPLETED or not isinstance(row.decision, Admitted):
            continue
        if job.over and job.repository.owner.reachable:
            yield Unfinished(Left.OPEN, f"row {job}", f"is {row.state.word}, over at GitHub")


def _configs(world: World) -> Iterator[str]:
    for name, times in world.around.handed_out.items():
        if times > 1:
            yield f"the config of {name} was handed out {times} times"
    used: dict[str, str] = {}
    for name in world.runners.connected:
        claim = name.rsplit("-", 1)[0]
        if claim in used:
            yield f"a claim used two configs: {used[claim]} and {name}"
        used[claim] = name


def _doorbells(world: World) -> Iterator[str]:
    turns = len(world.plan.skews) * world.clock.seconds() / world.around.deadlines.turn_seconds
    most = 2 * len(world.jobs.every) + world.plan.largest * turns
    if (rung := sum(world.around.rung.values())) > most:
        yield f"{rung} doorbells were rung; {most:.0f} are allowed"


def _reachable(world: World, claim: Claim) -> bool:
    """Whether GitHub can be asked about its runner, by the App that made it."""
    group = world.database.tables._groups[claim.group]
    return world.accounts.access_of(group.installation) is Access.INSTALLED
