"""Explanations: why a job waits, was refused, or got the runner it got."""

import pytest

from mayfly.engine.explanations import Explanations
from mayfly.model.errors import (
    GitHubRefused,
    GitHubUnreachable,
    MayflyError,
    NotFound,
    RateLimited,
    RefusalKind,
    Transient,
)
from mayfly.model.executors import Choice, Command
from mayfly.model.jobs import WorkflowJob
from mayfly.model.protocol import AttendOrder, FinishOrder, Outcome
from mayfly.model.releases import Outlook, Version
from tests.fakes.engine import POOLS, Engine
from tests.fakes.factories import (
    claimed,
    completed_job,
    queued_job,
    refused,
    registered_claim,
    running_job,
    waiting_job,
)
from tests.fakes.stalls import SUSPENDED, stalled_by_github, stalled_by_machines


async def summary_of(engine: Engine, *jobs: WorkflowJob) -> str:
    await engine.ledger.record(jobs)
    return (await engine.explanations.explain(1)).summary


async def test_a_job_nobody_told_us_of_says_where_to_look(engine: Engine):
    with pytest.raises(NotFound, match="recent deliveries at GitHub"):
        await engine.explanations.explain(1)


async def test_a_refused_job_says_why(engine: Engine):
    await engine.ledger.record([refused(queued_job(1))])
    answer = await engine.explanations.explain(1)
    assert answer.summary == "refused: no access rule lets it use the pool"
    assert answer.facts[0] == "reason: not_allowed"
    assert answer.facts[-1] == "first heard of at 2026-11-22 12:00:00 UTC"
    assert (answer.repository, answer.state, answer.attempt) == ("octo/hello", "queued", 1)


async def test_a_job_held_back_by_github_says_so(engine: Engine):
    assert "GitHub holds it back" in await summary_of(engine, waiting_job(1))


@pytest.mark.parametrize("answer", [None, waiting_job(1, asked=True)])
async def test_a_job_github_has_to_confirm_says_so(engine: Engine, answer: WorkflowJob | None):
    await engine.ledger.record([queued_job(1, age=0 if answer else 90_000)])
    if answer is not None:
        await engine.ledger.checked(answer.key, answer)
    assert await summary_of(engine) == (
        "GitHub has to confirm that it is still queued, and is asked soon"
    )


async def test_a_job_github_does_not_have_any_more_says_so(engine: Engine):
    await engine.ledger.record([queued_job(1)])
    for _ in range(2):
        await engine.ledger.checked(queued_job(1).key, None)
    assert await summary_of(engine) == "ended (gone); no runner took it"


async def test_a_job_without_an_executor_says_so(engine: Engine):
    summary = await summary_of(engine, queued_job(1), queued_job(2, age=60))
    assert summary == "waiting for an executor of pool linux to take it; is one running?"
    facts = (await engine.explanations.explain(1)).facts
    assert "1 older job(s) of the same repository and labels wait before it" in facts
    assert "pool linux: 0 of 3 runners in use, 2 to be made" in facts
    assert "its group: 2 queued, 0 runner(s) on the way" in facts


async def test_a_job_whose_runner_is_being_made_says_so(engine: Engine):
    await engine.ledger.record([queued_job(1)])
    await claimed(engine.ledger)
    assert await summary_of(engine) == "a runner for it is being made"


async def test_a_stalled_job_says_why_and_how_it_is_tried_again(engine: Engine):
    await stalled_by_github(engine.ledger)
    assert await summary_of(engine) == (
        f"stalled because 5 runners in a row failed: {SUSPENDED}; "
        "it is tried once an hour, and at once after: mayfly jobs retry 1"
    )


async def test_a_job_whose_group_is_tried_again_soon_says_why(engine: Engine):
    await stalled_by_github(engine.ledger, times=1)
    summary = await summary_of(engine)
    assert summary == f"making a runner failed once and is tried again soon: {SUSPENDED}"


async def test_a_forgiven_failure_of_a_machine_is_a_fact(engine: Engine):
    await stalled_by_machines(engine.ledger, times=1)
    answer = await engine.explanations.explain(1)
    assert answer.summary == "waiting for an executor of pool linux to take it; is one running?"
    failure = "no space left on device (machine board-1)"
    assert f"runners that failed in a row: 1; the last: {failure}" in answer.facts


@pytest.mark.parametrize(
    "kind", [kind for kind in RefusalKind if kind is not RefusalKind.NAME_EXISTS]
)
async def test_every_kind_of_refusal_is_counted_told_and_explained(
    engine: Engine, kind: RefusalKind
):
    await engine.ledger.record([queued_job(1)])
    made = await claimed(engine.ledger)
    engine.github.fail_before("mint", GitHubRefused(kind, f"GitHub says {kind}"))
    with pytest.raises(GitHubRefused):
        await engine.claims.register(made.id, made.boot)
    figure = f'mayfly_github_refused_total{{kind="{kind}"}} 1.0'
    assert figure in engine.telemetry.scrape().decode()
    assert "registration.refused" in await engine.heard()
    assert f"GitHub says {kind}" in await summary_of(engine)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("rate_limited", RateLimited("GitHub's limit is used up until 12:10:00 UTC")),
        ("unreachable", GitHubUnreachable("no answer from GitHub")),
        ("runner_name_exists", GitHubRefused(RefusalKind.NAME_EXISTS, "there is such a runner")),
    ],
)
async def test_what_is_tried_again_is_counted_told_and_explained_too(
    engine: Engine, kind: str, error: MayflyError
):
    await engine.ledger.record([queued_job(1)])
    made = await claimed(engine.ledger)
    engine.github.fail_before("mint", error)
    with pytest.raises(Transient):
        await engine.claims.register(made.id, made.boot)
    assert f'mayfly_github_refused_total{{kind="{kind}"}} 1.0' in engine.telemetry.scrape().decode()
    assert "registration.delayed" in await engine.heard()
    making = "a runner for it is being made"
    assert await summary_of(engine) == f"{making}, with trouble so far: {error}"
    await engine.claims.register(made.id, made.boot)
    assert await summary_of(engine) == making


async def test_a_full_pool_is_named(engine: Engine):
    await engine.ledger.record([queued_job(number, age=9) for number in (2, 3, 4)])
    for machine in ("m2", "m3", "m4"):
        await claimed(engine.ledger, machine)
    summary = await summary_of(engine, queued_job(1))
    assert summary == "waiting: all 3 runners of pool linux are in use"


async def test_a_pool_that_is_gone_from_the_settings_is_named(engine: Engine):
    await engine.ledger.record([queued_job(1)])
    answer = await Explanations(engine.ledger, (), lambda _: None).explain(1)
    assert answer.summary == "waiting, but pool 'linux' is not in mayfly.toml any more"


def told(engine: Engine, days: float) -> Explanations:
    """What is said while pool linux has a machine whose version will do for so many days."""
    outlook = Outlook(days, "board-1", Version(2, 330, 0), Version(2, 336, 0))
    return Explanations(engine.ledger, POOLS, {"linux": outlook}.get)


OUTDATED = "machine board-1 runs version 2.330.0 of GitHub's runner, and GitHub gives it no jobs"


async def test_a_version_that_is_refused_is_named_as_a_reason_to_wait(engine: Engine):
    await engine.ledger.record([queued_job(1)])
    await claimed(engine.ledger)
    answer = await told(engine, 0.0).explain(1)
    why = f"{OUTDATED} any more; install 2.336.0"
    assert answer.summary == f"a runner for it is being made; {why}"
    assert why in answer.facts


async def test_a_version_that_is_refused_soon_is_a_fact(engine: Engine):
    await engine.ledger.record([queued_job(1)])
    answer = await told(engine, 9.5).explain(1)
    assert answer.summary == "waiting for an executor of pool linux to take it; is one running?"
    assert f"{OUTDATED} after 10 more day(s); install 2.336.0" in answer.facts


async def test_a_version_that_will_do_and_those_of_other_pools_are_not_mentioned(engine: Engine):
    await engine.ledger.record([queued_job(1)])
    assert "machine" not in str((await told(engine, 10.1).explain(1)).facts)
    await engine.ledger.record([queued_job(1, labels=("self-hosted", "arm64"), attempt=2)])
    assert "machine" not in str((await told(engine, 0.0).explain(1)).facts)


async def test_a_running_job_names_its_machine(engine: Engine):
    await engine.ledger.record([queued_job(1)])
    mint = await registered_claim(engine.ledger, "board-7")
    summary = await summary_of(engine, running_job(1, runner=mint.name))
    assert summary == f"running on {mint.name}, made on machine board-7"


async def test_an_ended_job_names_its_machine_long_after(engine: Engine):
    await engine.ledger.record([queued_job(1)])
    mint = await registered_claim(engine.ledger, "board-7")
    await engine.ledger.finish(mint.claim.id, mint.claim.boot, Outcome.DONE, "")
    summary = await summary_of(engine, completed_job(1, runner=mint.name))
    assert summary == f"ended (success) on {mint.name}, made on machine board-7"


async def test_a_foreign_runner_is_called_one(engine: Engine):
    summary = await summary_of(engine, running_job(1, runner="theirs"))
    assert summary == "running on theirs, which is not a runner of this Mayfly"


async def test_a_cancelled_job_had_no_runner(engine: Engine):
    assert await summary_of(engine, completed_job(1)) == "ended (success); no runner took it"


async def test_the_newest_attempt_is_explained(engine: Engine):
    await engine.ledger.record([completed_job(1), queued_job(1, attempt=2)])
    assert (await engine.explanations.explain(1)).attempt == 2


async def attends(engine: Engine, machine: str = "m1", boot: str = "boot-1") -> None:
    await engine.ledger.attend("linux", AttendOrder(machine=machine, boot=boot))


async def test_a_pool_whose_machines_are_all_out_of_service_says_which_and_why(engine: Engine):
    for machine in ("m1", "m2", "m3"):
        await attends(engine, machine)
    drained = Choice(None, "linux", everything=True)
    await engine.ledger.command(Command.DRAIN, drained, "drained by op: a new disk")
    assert await summary_of(engine, queued_job(1)) == (
        "waiting: no machine serves pool linux; "
        "m1 is out of service (drained by op: a new disk); "
        "m2 is out of service (drained by op: a new disk); "
        "m3 is out of service (drained by op: a new disk); see: mayfly executors list"
    )
    await engine.ledger.command(Command.RETURN, Choice("m2", None), "")
    assert "is one running?" in await summary_of(engine)


async def test_a_pool_whose_machines_are_all_absent_says_so(engine: Engine):
    for machine in ("m1", "m2", "m3", "m4"):
        await attends(engine, machine)
    await engine.turns(7)
    assert await summary_of(engine, queued_job(1)) == (
        "waiting: no machine serves pool linux; m1 is absent; m2 is absent; m3 is absent; "
        "and 1 more; see: mayfly executors list"
    )


async def test_a_machine_that_cannot_prepare_says_so_where_people_look(engine: Engine):
    await attends(engine)
    await engine.queue()
    for _ in range(3):
        await engine.turns(3)
        made = await claimed(engine.ledger, "m1")
        failed = FinishOrder(boot=made.boot, outcome=Outcome.FAILED, detail="the board is dead")
        await engine.claims.finish(made.id, failed)
    await attends(engine)
    assert "executor.failed" in await engine.heard()
    assert (
        "m1 is out of service (it could not prepare 3 times in a row, the last time: the board is"
    ) in (await engine.explanations.explain(1)).summary + "".join(
        (await engine.explanations.explain(1)).facts
    )
