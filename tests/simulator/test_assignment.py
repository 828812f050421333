"""Which job goes to which runner."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mayfly.simulator.assignment import Candidate, fits, pairs
from mayfly.simulator.runners import Runner, Scope, covers

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def runner(number: int, *labels: str, repo: str | None = "repo") -> Runner:
    return Runner(
        id=number,
        name=f"runner-{number}",
        scope=Scope(owner="Org", repo=repo),
        labels=labels,
        created_at=NOW,
        status="online",
    )


def job(number: int, *labels: str, repo: str = "repo") -> Candidate:
    return Candidate(uid=number, id=100 + number, owner="org", repo=repo, labels=labels)


def matched(
    jobs: list[Candidate], runners: list[Runner], forced: dict[int, int] | None = None
) -> list[tuple[int, int]]:
    found = pairs(jobs, runners, forced=forced or {}, choose=lambda able: able[0])
    return [(j.uid, r.id) for j, r in found]


@pytest.mark.parametrize(
    ("runner_labels", "job_labels", "wanted"),
    [
        (("self-hosted", "Linux"), ("self-hosted",), True),
        (("self-hosted", "Linux"), ("SELF-HOSTED", "linux"), True),
        (("self-hosted",), ("self-hosted", "gpu"), False),
    ],
)
def test_a_runner_covers_a_job_when_it_has_every_label(
    runner_labels: tuple[str, ...], job_labels: tuple[str, ...], wanted: bool
) -> None:
    assert covers(runner_labels, job_labels) is wanted


def test_a_runner_serves_its_repository_or_its_whole_organization() -> None:
    assert fits(runner(1, "a"), job(1, "a", repo="REPO"))
    assert not fits(runner(1, "a"), job(1, "a", repo="other"))
    assert fits(runner(1, "a", repo=None), job(1, "a", repo="other"))


def test_the_oldest_job_takes_any_runner_that_fits() -> None:
    jobs = [job(1, "gpu"), job(2, "a"), job(3, "a")]
    assert matched(jobs, [runner(7, "a")]) == [(2, 7)]
    assert matched(jobs, [runner(7, "a", "gpu"), runner(8, "a")]) == [(1, 7), (2, 8)]


def test_a_forced_job_waits_for_its_runner_and_the_runner_for_its_job() -> None:
    jobs = [job(1, "a"), job(2, "a")]
    assert matched(jobs, [runner(7, "a")], {102: 7}) == [(2, 7)]
    assert matched([job(1, "a")], [runner(7, "a")], {102: 7}) == []
    assert matched([job(2, "a")], [runner(8, "a")], {102: 7}) == []
