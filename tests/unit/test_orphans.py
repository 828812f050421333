"""Orphans: runners of our exact shape that nobody watches over are deleted, and no others."""

import asyncio

import pytest
import structlog

from mayfly.engine.orphans import Orphans
from mayfly.model.protocol import Outcome
from mayfly.model.runners import ClaimId, GitHubRunner, Sighting, runner_name
from tests.fakes.engine import Engine
from tests.fakes.factories import (
    PREFIX,
    claimed,
    minting_claim,
    queued_job,
    registered_claim,
    running_job,
)

HOUR = 3600
NOBODY = ClaimId("z" * 26)
LEAKED = runner_name(PREFIX, NOBODY, 1)


def appears(engine: Engine, *names: str) -> None:
    """They are at GitHub."""
    for name in names:
        github_id = len(engine.github.registered) + 500
        runner = GitHubRunner(github_id, name, "offline", False, ("self-hosted", "linux"))
        engine.github.registered[name] = runner


@pytest.fixture
def orphans(engine: Engine) -> Orphans:
    return Orphans(
        ledger=engine.ledger,
        github=engine.github,
        news=engine.news,
        telemetry=engine.telemetry,
        clock=engine.clock,
        prefix=PREFIX,
    )


async def passes(orphans: Orphans, seconds: float = HOUR) -> None:
    """So much ledger time, with a turn every 20 seconds."""
    for at in range(0, int(seconds) + 1, 20):
        await orphans.turn(float(at))


async def test_a_runner_nobody_watches_over_is_deleted_and_told(engine: Engine, orphans: Orphans):
    await engine.ledger.record([queued_job(1)])
    appears(engine, LEAKED)
    await passes(orphans)
    assert engine.github.registered == {}
    assert await engine.heard() == ["orphan.deleted"]
    scraped = engine.telemetry.scrape().decode()
    assert 'mayfly_reconciler_corrected_total{correction="orphan_deleted"} 1.0' in scraped


@pytest.mark.parametrize(
    "name",
    [
        "theirs",
        "mayfly-board-1",
        f"mayfly-{'z' * 25}-1",
        f"mayfly-{'z' * 27}-1",
        f"mayfly-{'Z' * 26}-1",
        f"mayfly-{'z' * 26}",
        f"mayfly-{'z' * 26}-",
        f"mayfly-{'z' * 26}-1x",
        f"mayfly-{'z' * 26}-1-2",
        f"mayfly-dev-{'z' * 26}-1",
        f"dev-mayfly-{'z' * 26}-1",
        f"mayflies-{'z' * 26}-1",
        f"mayfly-{'z' * 26}-1\n",
    ],
)
async def test_a_name_that_is_not_exactly_of_our_shape_is_somebody_elses(
    engine: Engine, orphans: Orphans, name: str
):
    await engine.ledger.record([queued_job(1)])
    appears(engine, name)
    await passes(orphans)
    assert list(engine.github.registered) == [name]
    assert engine.github.verbs("delete_runner") == []


async def test_runners_of_live_claims_are_left_alone(engine: Engine, orphans: Orphans):
    await engine.ledger.record([queued_job(number) for number in range(1, 4)])
    minting = await minting_claim(engine.ledger, "m1")
    idle = await registered_claim(engine.ledger, "m2")
    busy = await registered_claim(engine.ledger, "m3")
    await engine.ledger.record([running_job(1, runner=busy.name)])
    names = [minting.name, idle.name, busy.name]
    appears(engine, *names)
    await passes(orphans)
    assert list(engine.github.registered) == names


async def test_names_on_the_worklist_are_left_to_it(engine: Engine, orphans: Orphans):
    await engine.ledger.record([queued_job(1)])
    mint = await registered_claim(engine.ledger)
    await engine.ledger.finish(mint.claim.id, mint.claim.boot, Outcome.FAILED, "")
    appears(engine, mint.name)
    await passes(orphans)
    assert list(engine.github.registered) == [mint.name]


async def test_a_runner_that_appears_after_it_was_proven_gone_is_deleted(
    engine: Engine, orphans: Orphans
):
    await engine.ledger.record([queued_job(1)])
    mint = await registered_claim(engine.ledger)
    await engine.ledger.finish(mint.claim.id, mint.claim.boot, Outcome.FAILED, "")
    await engine.ledger.saw(mint.name, Sighting.GONE)
    appears(engine, mint.name)
    await passes(orphans)
    assert engine.github.registered == {}


async def test_a_generation_that_was_never_made_is_nobodys(engine: Engine, orphans: Orphans):
    await engine.ledger.record([queued_job(1)])
    mint = await registered_claim(engine.ledger)
    appears(engine, mint.name, runner_name(PREFIX, mint.claim.id, 2))
    await passes(orphans)
    assert list(engine.github.registered) == [mint.name]


async def test_an_orphan_with_a_job_at_work_is_left_to_end_it(engine: Engine, orphans: Orphans):
    await engine.ledger.record([queued_job(1)])
    appears(engine, LEAKED)
    engine.github.start_job_on(LEAKED)
    await passes(orphans)
    assert list(engine.github.registered) == [LEAKED]
    assert await engine.heard() == []


async def test_every_scope_is_looked_at_once_an_hour(engine: Engine, orphans: Orphans):
    await engine.ledger.record([queued_job(n, repository=f"r{n}") for n in range(1, 6)])
    await passes(orphans, 3 * HOUR)
    looked = [subject for verb, subject in engine.github.calls if verb == "runners_of"]
    assert sorted(looked) == sorted(3 * [f"repos/octo/r{number}" for number in range(1, 6)])


async def test_a_scope_github_does_not_show_is_no_others_trouble(engine: Engine, orphans: Orphans):
    await engine.ledger.record([queued_job(n, repository=f"r{n}") for n in (1, 2)])
    appears(engine, LEAKED)
    engine.github.fail_before("runners_of")
    with structlog.testing.capture_logs() as entries:
        await passes(orphans)
    assert [entry["event"] for entry in entries].count("orphans.unseen") == 1
    assert engine.github.registered == {}


async def test_an_installation_that_does_not_answer_is_left_alone_for_the_turn(
    engine: Engine, orphans: Orphans
):
    theirs = [queued_job(n, owner="mona", repository=f"r{n}", installation=6) for n in range(1, 9)]
    await engine.ledger.record([*theirs, queued_job(9)])
    appears(engine, LEAKED)
    for _ in range(2):
        engine.github.fail_before("runners_of")
    await orphans.turn(0.0)
    await orphans.turn(float(HOUR))
    asked = [subject for verb, subject in engine.github.calls if verb == "runners_of"]
    assert len(asked) == 3
    assert asked[-1] == "repos/octo/hello"
    assert engine.github.registered == {}


async def test_an_orphan_that_could_not_be_deleted_is_met_again(engine: Engine, orphans: Orphans):
    await engine.ledger.record([queued_job(1)])
    appears(engine, LEAKED)
    engine.github.fail_before("delete_runner")
    await passes(orphans, 2 * HOUR)
    assert engine.github.registered == {}


async def test_a_runner_that_is_made_meanwhile_is_no_orphan(engine: Engine, orphans: Orphans):
    """Its name is in the ledger before it is at GitHub, and GitHub is asked first."""
    await engine.ledger.record([queued_job(1)])
    made = await claimed(engine.ledger)
    engine.github.hold("runners_of")
    looking = asyncio.create_task(passes(orphans))
    await engine.github.held("runners_of")
    await engine.claims.register(made.id, made.boot)
    engine.github.release("runners_of")
    await looking
    assert len(engine.github.registered) == 1
