"""Which queued job goes to which idle runner."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct

from mayfly.simulator.runners import Runner, covers


class Candidate(Struct, frozen=True, kw_only=True):
    """A queued job as the choice sees it."""

    uid: int
    id: int
    owner: str
    repo: str
    labels: tuple[str, ...]


def fits(runner: Runner, job: Candidate) -> bool:
    """Whether GitHub may give this job to this runner."""
    return runner.scope.serves(job.owner, job.repo) and covers(runner.labels, job.labels)


def pairs(
    queued: Iterable[Candidate],
    idle: Sequence[Runner],
    *,
    forced: Mapping[int, int],
    choose: Callable[[Sequence[Runner]], Runner],
) -> list[tuple[Candidate, Runner]]:
    """Oldest job first, to any runner that covers it.

    `forced` maps a job id to the only runner id it may go to; such a runner takes no other job.
    """
    free = {runner.id: runner for runner in idle}
    kept = frozenset(forced.values())
    chosen: list[tuple[Candidate, Runner]] = []
    for job in queued:
        if not free:
            break
        wanted = forced.get(job.id)
        if wanted is not None:
            able = [free[wanted]] if wanted in free else []
        else:
            able = [r for r in free.values() if r.id not in kept and fits(r, job)]
        if able:
            runner = choose(able)
            chosen.append((job, runner))
            del free[runner.id]
    return chosen
