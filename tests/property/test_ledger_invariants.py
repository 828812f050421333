"""The ledger's invariants, under any order of what can happen, and alike in every store."""

import os
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mayfly.model.changes import Mint, Recount
from mayfly.model.jobs import GroupId, InstallationId, JobId, JobKey, JobState, WorkflowJob
from mayfly.model.protocol import Outcome
from mayfly.model.runners import ClaimId, ClaimState, RunKey, Sighting, runner_name
from mayfly.ports import Ledger
from tests.fakes.clocks import TURN
from tests.fakes.factories import PREFIX, event, job_of, order, refused
from tests.fakes.stores import EVERY, Stores

MAXIMUM = 3
PER_OWNER = 2
LABELS = (
    ("self-hosted", "linux"),
    ("Self-Hosted", "LINUX"),
    ("self-hosted", "linux", "a"),
    ("self-hosted", "linux", "b"),
    ("self-hosted", "arm64"),
)
ORDER_OF_STATES = list(ClaimState)
FIRST_END = ORDER_OF_STATES.index(ClaimState.DONE)
OLD = 13
"""Jobs from this id on are heard of a day late."""
RUNS = (RunKey("octo/hello", 900, 1), RunKey("octo/hello", 900, 2))

anything = st.integers(0, 99)
ANSWERS = (*JobState, None)
"""What GitHub says of a job; None: it has no such job."""
job_ids = st.integers(1, 15)
there_are_claims = precondition(lambda machine: machine.claims)


def one_of(things: list[Any], choice: int) -> Any:
    return things[choice % len(things)]


class LedgerMachine(RuleBasedStateMachine):
    """The same verbs at the same times, given to every store."""

    places = ("memory", "sqlite")

    def __init__(self) -> None:
        super().__init__()
        self.stores = Stores(self.places)
        self.claims: list[ClaimId] = []
        self.boots: dict[ClaimId, str] = {}
        self.names: list[str] = ["theirs"]
        self.orders: list[dict[str, Any]] = []
        self.reached: dict[JobKey, JobState] = {}
        self.claim_states: dict[ClaimId, tuple[int, int]] = {}
        self.wanted_groups: set[int] = set()
        self.refused: set[JobKey] = set()
        """Jobs that were refused at some time."""
        self.handed_out: set[tuple[ClaimId, int]] = set()

    @initialize(machines=st.lists(st.integers(1, 4), max_size=4))
    def open_stores(self, machines: list[int]) -> None:
        self.stores.open()
        self._record([self._job(job_id, 1, JobState.QUEUED, True, None) for job_id in range(1, 9)])
        for machine in machines:
            self.a_runner_comes_up(machine, "linux")

    def teardown(self) -> None:
        self.stores.close()

    # What can happen

    @rule(
        job_id=job_ids,
        attempt=st.sampled_from([1, 1, 1, 2]),
        state=st.sampled_from(JobState),
        allowed=st.sampled_from([True, True, True, False]),
        runner=st.none() | anything,
    )
    def record(
        self, job_id: int, attempt: int, state: JobState, allowed: bool, runner: int | None
    ) -> None:
        self._record([self._job(job_id, attempt, state, allowed, runner)])

    @rule(jobs=st.lists(st.tuples(job_ids, st.sampled_from(JobState), anything), min_size=1))
    def record_many(self, jobs: list[tuple[int, JobState, int]]) -> None:
        self._record([self._job(job_id, 1, state, True, pick) for job_id, state, pick in jobs])

    @rule(job_id=job_ids, allowed=st.booleans())
    def redecide(self, job_id: int, allowed: bool) -> None:
        job = self._job(job_id, 1, JobState.QUEUED, allowed, None)
        self._want([job])
        self._both(lambda ledger: ledger.redecide([job]))

    @rule(machine=st.integers(1, 4), pool=st.sampled_from(["linux", "arm64"]))
    def a_runner_comes_up(self, machine: int, pool: str) -> None:
        """The way most claims go, so that the steps beside it meet claims in every state."""
        made = self._claim(self._order(machine, 1, pool, ()))
        if made is not None:
            mint = self._mint(made.id, made.boot)
            if isinstance(mint, Mint):
                self._hand_out(made.id, mint.claim.generation)

    @rule(
        machine=st.integers(1, 4),
        boot=st.sampled_from([1, 1, 1, 2]),
        pool=st.sampled_from(["linux", "linux", "linux", "arm64"]),
        variants=st.sampled_from([(), ("a",), ("a", "B")]),
    )
    def claim(self, machine: int, boot: int, pool: str, variants: tuple[str, ...]) -> None:
        self._claim(self._order(machine, boot, pool, variants))

    @there_are_claims
    @rule(which=anything)
    def claim_again(self, which: int) -> None:
        asked = one_of(self.orders, which)
        known = {claim.key: claim.id for claim in self._claims_now()}
        made = self._claim(asked)
        if asked["key"] in known:
            assert made is not None
            assert made.id == known[asked["key"]], "same key, same claim"

    @there_are_claims
    @rule(which=anything, own=st.sampled_from([True, True, True, False]))
    def minting(self, which: int, own: bool) -> None:
        claim = one_of(self.claims, which)
        self._mint(claim, self.boots[claim] if own else "another")

    @there_are_claims
    @rule(which=anything, behind=st.sampled_from([0, 0, 0, 1]))
    def registered(self, which: int, behind: int) -> None:
        claim = one_of(self.claims, which)
        self._hand_out(claim, self._now(claim).generation - behind)

    @there_are_claims
    @rule(which=anything, own=st.sampled_from([True, True, True, False]))
    def heartbeat(self, which: int, own: bool) -> None:
        claim = one_of(self.claims, which)
        boot = self.boots[claim] if own else "another"
        self._both(lambda ledger: ledger.heartbeat(claim, boot))

    @there_are_claims
    @rule(which=anything, outcome=st.sampled_from(Outcome))
    def finish(self, which: int, outcome: Outcome) -> None:
        claim = one_of(self.claims, which)
        self._both(lambda ledger: ledger.finish(claim, self.boots[claim], outcome, "why"))

    @there_are_claims
    @rule(which=anything, sighting=st.sampled_from(Sighting))
    def saw(self, which: int, sighting: Sighting) -> None:
        self._saw(one_of(self.names, which), sighting)

    @there_are_claims
    @rule(which=anything, run=st.sampled_from(RUNS), own=st.sampled_from([True, True, True, False]))
    def started(self, which: int, run: RunKey, own: bool) -> None:
        claim = one_of(self.claims, which)
        boot = self.boots[claim] if own else "another"
        self._both(lambda ledger: ledger.started(claim, boot, run))

    @rule(job_id=job_ids, attempt=st.sampled_from([1, 1, 2]), answer=st.sampled_from(ANSWERS))
    def checked(self, job_id: int, attempt: int, answer: JobState | None) -> None:
        """What GitHub answers; of the newest attempt, as it does."""
        key = JobKey(JobId(job_id), attempt)
        job = None
        if answer is not None:
            newest = max(
                attempt, *(found.attempt for found in self.reached if found.id == job_id), 1
            )
            job = self._job(job_id, newest, answer, True, job_id, asked=True)
            self._want([job])
        self._both(lambda ledger: ledger.checked(key, job))
        self._all_only_move_on()

    @rule(job_id=job_ids, attempt=st.sampled_from([1, 1, 2]))
    def postponed(self, job_id: int, attempt: int) -> None:
        self._both(lambda ledger: ledger.postponed(JobKey(JobId(job_id), attempt)))

    @there_are_claims
    @rule(which=anything)
    def overdue(self, which: int) -> None:
        self._overdue(one_of(self.claims, which))

    @rule(which=anything)
    def retry(self, which: int) -> None:
        group = one_of(sorted(self.wanted_groups), which)
        self._both(lambda ledger: ledger.retry(group))

    @rule(installation=st.sampled_from([7, 8]))
    def revived(self, installation: int) -> None:
        self._both(lambda ledger: ledger.revived(InstallationId(installation)))

    @rule()
    def recount(self) -> None:
        """A round of the groups; nothing is ever wrong."""
        recount = self._both(partial(_recount, None))
        while recount is not None:
            assert recount.wrong == ()
            recount = self._both(partial(_recount, recount.group))

    @rule()
    def days_pass_and_what_is_over_is_forgotten(self) -> None:
        live = {claim.id for claim in self._claims_now() if claim.live}
        self._all_only_move_on()
        self._tick("a", timedelta(days=9), 9 * 86_400)
        self._both(lambda ledger: ledger.forget(EVERY))
        kept = {claim.id for claim in self._claims_now()}
        assert live <= kept
        self.claims = [claim for claim in self.claims if claim in kept]
        known = {job.key for job in self.stores.ask(lambda ledger: ledger.jobs(EVERY))}
        over = {key for key in self.reached if key not in known}
        assert all(self._may_be_forgotten(key) for key in over)
        self.reached = {key: state for key, state in self.reached.items() if key in known}

    @there_are_claims
    @rule(which=anything)
    def relieve_or_lose(self, which: int) -> None:
        self._relieve(one_of(self.claims, which))
        self._lose(one_of(self.claims, which))

    @rule(seconds=st.sampled_from([1.5, 20, 40, 70, 3600]), instance=st.sampled_from("aab"))
    def tick(self, seconds: float, instance: str) -> None:
        self._tick(instance, TURN, seconds)

    @rule(instance=st.sampled_from("ab"))
    def resign(self, instance: str) -> None:
        self._both(lambda ledger: ledger.resign(instance))

    @there_are_claims
    @rule(
        sighting=st.sampled_from(Sighting),
        answer=st.sampled_from(ANSWERS),
        seconds=st.sampled_from([20, 20, 130, 1300]),
    )
    def a_turn_of_the_reconciler(
        self, sighting: Sighting, answer: JobState | None, seconds: float
    ) -> None:
        self._tick("a", timedelta(seconds=seconds), seconds)
        due = self._both(lambda ledger: ledger.due(50))
        for claim in due.silent:
            self._lose(claim.id)
        for claim in due.surplus:
            self._relieve(claim.id)
        for claim, _ in due.overdue:
            self._overdue(claim.id)
        for name, _, _ in due.looks:
            self._saw(name.name, sighting)
        for job in due.checks:
            self.checked(job.key.id, job.key.attempt, answer)

    # How it happens

    def _job(
        self,
        job_id: int,
        attempt: int,
        state: JobState,
        allowed: bool,
        runner: int | None,
        *,
        asked: bool = False,
    ) -> WorkflowJob:
        """Owner, repository and labels belong to the id, as at GitHub; its runner may be any."""
        forged = [runner_name(PREFIX, claim, 7) for claim in self.claims[:1]]
        taken = runner is not None and state >= JobState.IN_PROGRESS
        heard = event(
            job_id,
            attempt=attempt,
            state=state,
            owner=("octo", "acme", "octo")[job_id % 3],
            repository=("hello", "world")[job_id % 2],
            labels=LABELS[job_id % 5],
            runner=one_of(self.names + forged, runner or 0) if taken else None,
            age=90_000 if job_id >= OLD else job_id * 7.0 % 5,
            asked=asked,
        )
        return job_of(heard) if allowed else refused(job_of(heard))

    def _order(
        self, machine: int, boot: int, pool: str, variants: tuple[str, ...]
    ) -> dict[str, Any]:
        asked = {
            "machine": f"m{machine}",
            "boot": f"boot-{machine}-{boot}",
            "key": f"key-{len(self.orders)}",
            "pool": pool,
            "variants": variants,
        }
        self.orders.append(asked)
        return asked

    def _record(self, jobs: list[WorkflowJob]) -> None:
        self._want(jobs)
        self._both(lambda ledger: ledger.record(jobs))
        for job in jobs:
            self.reached[job.key] = max(job.state, self.reached.get(job.key, job.state))
            self._only_moves_on(job.key)

    def _only_moves_on(self, key: JobKey) -> None:
        found = self.stores.ask(lambda ledger: ledger.job(key))
        assert found is not None
        assert found.state >= self.reached[key]
        self.reached[key] = found.state

    def _all_only_move_on(self) -> None:
        for key in list(self.reached):
            self._only_moves_on(key)

    def _may_be_forgotten(self, key: JobKey) -> bool:
        return self.reached[key] is JobState.COMPLETED or key in self.refused

    def _tick(self, instance: str, period: timedelta, seconds: float) -> None:
        self.stores.advance(seconds)
        self._both(lambda ledger: ledger.tick(instance, period))

    def _overdue(self, claim: ClaimId) -> None:
        self._both(lambda ledger: ledger.overdue(claim))

    def _lose(self, claim: ClaimId) -> None:
        self._both(lambda ledger: ledger.lose(claim))

    def _relieve(self, claim: ClaimId) -> None:
        self._both(lambda ledger: ledger.relieve(claim))

    def _saw(self, name: str, sighting: Sighting) -> None:
        self._both(lambda ledger: ledger.saw(name, sighting))

    def _want(self, jobs: list[WorkflowJob]) -> None:
        self.wanted_groups |= {job.group for job in jobs if job.group is not None}
        self.refused |= {job.key for job in jobs if job.group is None}

    def _claim(self, asked: dict[str, Any]) -> Any:
        made = self._both(lambda ledger: ledger.claim(order(**asked), MAXIMUM, PER_OWNER))
        if made is not None and made.id not in self.boots:
            assert made.group in self.wanted_groups, "no claim without an admitted job"
            self.claims.append(made.id)
            self.boots[made.id] = made.boot
        return made

    def _mint(self, claim: ClaimId, boot: str) -> Any:
        answer = self._both(lambda ledger: ledger.minting(claim, boot, PREFIX))
        if isinstance(answer, Mint):
            assert answer.claim.group in self.wanted_groups
            assert answer.name not in self.names, "each generation once"
            self.names.append(answer.name)
        return answer

    def _hand_out(self, claim: ClaimId, generation: int) -> None:
        github_id = len(self.handed_out) + 100
        answer = self._both(lambda ledger: ledger.registered(claim, generation, github_id))
        if answer is None:
            assert (claim, generation) not in self.handed_out, "each generation once"
            self.handed_out.add((claim, generation))

    def _both(self, act: Callable[[Ledger], Awaitable[Any]]) -> Any:
        """Every store answers alike; afterwards the invariants hold in each."""
        answer = self.stores.answer(act)
        for store in self.stores.opened:
            stored, recounted = store.counters()
            assert stored == recounted
            assert all(used <= MAXIMUM for used in stored.pools.values())
            assert all(min(counts) >= 0 for counts in stored.groups.values())
        return answer

    def _now(self, claim: ClaimId) -> Any:
        return self.stores.ask(lambda ledger: ledger.claimed(claim))[0]

    def _claims_now(self) -> list[Any]:
        return list(self.stores.ask(lambda ledger: ledger.claims(EVERY, live=False)))

    @invariant()
    def stores_hold_the_same(self) -> None:
        assert self.stores.hold_the_same()

    @invariant()
    def claims_only_move_on(self) -> None:
        """A new generation is the only step back, and an end is the end."""
        for claim in self._claims_now() if self.stores.opened else []:
            place = ORDER_OF_STATES.index(claim.state)
            generation, before = self.claim_states.get(claim.id, (0, 0))
            assert (claim.generation, place) >= (generation, before)
            assert before < FIRST_END or place == before
            self.claim_states[claim.id] = claim.generation, place


async def _recount(after: GroupId | None, ledger: Ledger) -> Recount | None:
    return await ledger.recount(after)


class LedgerMachineOnPostgres(LedgerMachine):
    """Beside memory, so that a difference shows."""

    places = ("memory", "postgres")


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=40,
        deadline=None,
        derandomize=bool(os.environ.get("CI")),
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # shrinking takes minutes; add Phase.shrink when one is found
        print_blob=False,
        database=None,
    )


TestLedger = LedgerMachine.TestCase
TestLedger.settings = _settings(30)
TestLedgerOnPostgres = LedgerMachineOnPostgres.TestCase
TestLedgerOnPostgres.settings = _settings(3)  # each step waits for a server
