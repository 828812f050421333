"""Verdicts: which jobs may run by the operator's own rules, and which ran all the same."""

from mayfly.model.pools import Pool, VariantRule
from tests.simulation.accounts import Accounts
from tests.simulation.jobs import Job
from tests.simulation.journal import Journal


class Verdicts:
    """The truth about admission, which the engine's answers are held against."""

    def __init__(self, accounts: Accounts, journal: Journal) -> None:
        self._accounts = accounts
        self._journal = journal
        self._asked_while: dict[str, bool] = {}
        self.past_the_guard: list[str] = []
        """Refused jobs that began their first step although the pool has a guard."""
        self.unguarded: list[str] = []
        """Refused jobs that ran where there is no guard to hold them back."""
        self.wrongly_denied: list[str] = []
        """Admitted jobs that got no answer, or a no, from the guard."""

    def admitted(self, job: Job) -> bool:
        """By the rules as they are now."""
        pool = job.work.pool
        return pool is not None and self._accounts.allowed(job.repository, pool)

    def ever_admitted(self, job: Job) -> bool:
        """By the rules as they are, or once were."""
        key = job.repository.full_name, job.work.pool or ""
        return key in self._accounts.ever_allowed

    def asked(self, job: Job) -> None:
        """The guard asks; a rule may change before the answer."""
        self._asked_while[str(job)] = self.admitted(job)

    def denied(self, job: Job, reason: str) -> None:
        self._journal.say("job.denied", job, reason)
        if self.admitted(job) and self._asked_while.get(str(job)):
            self.wrongly_denied.append(f"{job}: {reason}")

    def first_step(self, job: Job, runner: str, *, guarded: bool) -> None:
        if self.admitted(job) or self._asked_while.get(str(job)):
            return
        found = f"job {job} of {job.repository.full_name} {job.work.labels} on {runner}"
        (self.past_the_guard if guarded else self.unguarded).append(found)


def pool_named(labels: tuple[str, ...], pools: tuple[Pool, ...]) -> str | None:
    """The pool a sequence of labels names, by the words of the documentation."""
    match labels:
        case ("self-hosted", name) if pool := _known(name, pools):
            return None if pool.variant is VariantRule.REQUIRED else pool.name
        case ("self-hosted", name, variant) if pool := _known(name, pools):
            takes = pool.variant is not VariantRule.ABSENT and variant in pool.variants
            return pool.name if takes else None
        case _:
            return None


def _known(name: str, pools: tuple[Pool, ...]) -> Pool | None:
    return next((pool for pool in pools if pool.name == name), None)
