"""Audits: every transaction recounted, and every change of a state checked, before it is kept."""

from collections.abc import Callable

from mayfly.model.access import Admitted
from mayfly.model.jobs import WorkflowJob
from mayfly.model.pools import Pool
from mayfly.model.runners import Claim, Registration
from tests.simulation.journal import Journal
from tests.simulation.recounts import Recount, changed
from tests.simulation.stores import WatchedTables

RANK = {"claimed": 0, "minting": 1, "registered": 2, "busy": 3}
ENDED = 4

Complain = Callable[[str], object]
MayBeAdmitted = Callable[[WorkflowJob, Admitted], bool]


class Audit:
    """Stands between a transaction and its keeping (3, 5, 6, 7)."""

    def __init__(
        self,
        tables: WatchedTables,
        pools: tuple[Pool, ...],
        may_be_admitted: MayBeAdmitted,
        journal: Journal,
        complain: Complain,
    ) -> None:
        self._tables = tables
        self._may_be_admitted = may_be_admitted
        self._journal = journal
        self._complain = complain
        self._recount = Recount(tables, pools, complain)
        self.transactions = 0
        self.on_claim: Callable[[Claim | None, Claim], object] = lambda old, new: None
        """Told of every change of a claim, with the counters already moved."""
        tables.watch = self._transaction

    def _transaction(self) -> None:
        self.transactions += 1
        changes = changed(self._tables)
        self._recount.follow(changes)
        for name, name_after in changes.names:
            self._name(name, name_after)
        for job, job_after in changes.jobs:
            if job_after is not None:
                self._job(job, job_after)
        for claim, claim_after in changes.claims:
            if claim_after is not None:
                self._claim(claim, claim_after)
                self._watched(claim_after)
                self.on_claim(claim, claim_after)

    def _name(self, old: Registration | None, new: Registration | None) -> None:
        if new is not None:
            self._journal.say("name", new.name, new.github_id, new.negatives, new.next_look_at)
        elif old is not None:
            self._journal.say("name", old.name, "gone")

    def _job(self, old: WorkflowJob | None, new: WorkflowJob) -> None:
        if old is not None and new.state < old.state and old.event.conclusion != "gone":
            self._complain(f"job {new.key} moved back from {old.state.word} to {new.state.word}")
        decision = new.decision
        if old is not None and old.decision == decision:
            return
        if isinstance(decision, Admitted) and not self._may_be_admitted(new, decision):
            self._complain(f"job {new.key} was admitted to {decision.pool}, wrongly")

    def _claim(self, old: Claim | None, new: Claim) -> None:
        if old is not None and self._variant(new) != self._variant(old):
            self._complain(f"claim {new.id} moved to another variant than it was prepared for")
        if old is not None and (old.state, old.generation) == (new.state, new.generation):
            return
        self._journal.say(f"claim.{new.state}", new.id, new.generation, new.machine, new.detail)
        if old is not None:
            self._edge(old, new)
        elif not self._recount.queued[new.group]:
            self._complain(f"claim {new.id} was made for a group without an admitted job")

    def _variant(self, claim: Claim) -> str | None:
        group = self._tables._groups.get(claim.group)
        return group.variant if group else None

    def _edge(self, old: Claim, new: Claim) -> None:
        """A new generation is the only step back."""
        before, after = (RANK.get(each.state.value, ENDED) for each in (old, new))
        next_generation = after == 1 and new.generation == old.generation + 1
        if before == ENDED or (after <= before and not next_generation):
            self._complain(f"claim {new.id} moved from {old.state} to {new.state}")

    def _watched(self, claim: Claim) -> None:
        """A name of an ended claim that nobody ever looks at is a leak to come."""
        if claim.state.value in RANK:
            return
        for name in self._recount.names[claim.id]:
            if self._tables._registrations[name].next_look_at is None:
                self._complain(f"claim {claim.id} is {claim.state}, and nobody looks at {name}")
