"""What machines are told to install: asked of GitHub once, wherever the App is installed."""

import asyncio
from datetime import timedelta

import pytest

from mayfly.engine.offers import KEPT_FOR, Offers
from mayfly.model.errors import GitHubRefused, GitHubUnreachable, NotFound, RefusalKind
from mayfly.model.jobs import InstallationId
from mayfly.model.releases import Offer, Version
from mayfly.model.repositories import Repository
from tests.fakes.engine import Engine
from tests.fakes.factories import queued_job
from tests.fakes.github import offer
from tests.fakes.web import world

NEW = Version(2, 336, 0)


@pytest.fixture
def offers(engine: Engine) -> Offers:
    engine.github.newest = NEW
    return Offers(engine.ledger, engine.github, engine.clock)


async def test_github_is_asked_where_jobs_were_lately(engine: Engine, offers: Offers):
    await engine.ledger.record([queued_job(1, repository="r1")])
    assert list(await offers.newest()) == [offer(NEW)]
    assert engine.github.calls == [("offers", "repos/octo/r1")]


async def test_before_the_first_job_any_repository_will_do(engine: Engine, offers: Offers):
    engine.github.seen = [Repository(InstallationId(7), "octo", "hello")]
    assert list(await offers.newest()) == [offer(NEW)]
    assert engine.github.calls[-1] == ("offers", "repos/octo/hello")


async def test_any_number_of_machines_cost_one_call_in_ten_minutes(engine: Engine, offers: Offers):
    await engine.ledger.record([queued_job(1)])
    await asyncio.gather(*(offers.newest() for _ in range(50)))
    engine.clock.advance(KEPT_FOR.total_seconds())
    await offers.newest()
    assert engine.github.verbs("offers") == ["offers", "offers"]


async def test_the_days_until_older_versions_are_refused_are_counted_from_now_on(
    engine: Engine, offers: Offers
):
    await engine.ledger.record([queued_job(1)])
    await offers.newest()
    assert [release.version for release in await engine.ledger.releases()] == [NEW]


async def test_after_a_refusal_another_scope_is_asked(engine: Engine, offers: Offers):
    await engine.ledger.record([queued_job(n, repository=f"r{n}") for n in (1, 2)])
    gone = GitHubRefused(RefusalKind.REPOSITORY_GONE, "GitHub shows no such repository")
    engine.github.fail_before("offers", gone)
    assert list(await offers.newest()) == [offer(NEW)]
    assert len(engine.github.verbs("offers")) == 2


async def test_when_every_scope_refuses_the_refusal_is_told(engine: Engine, offers: Offers):
    await engine.ledger.record([queued_job(n, repository=f"r{n}") for n in range(1, 6)])
    for _ in range(3):
        refused = GitHubRefused(RefusalKind.MISSING_PERMISSION, "GitHub says no")
        engine.github.fail_before("offers", refused)
    with pytest.raises(GitHubRefused, match="GitHub says no"):
        await offers.newest()


async def test_what_could_not_be_asked_is_asked_again_at_once(engine: Engine, offers: Offers):
    await engine.ledger.record([queued_job(1)])
    engine.github.fail_before("offers")
    with pytest.raises(GitHubUnreachable):
        await offers.newest()
    assert list(await offers.newest()) == [offer(NEW)]


async def test_where_the_app_is_installed_nowhere_that_is_said(engine: Engine, offers: Offers):
    with pytest.raises(NotFound, match="install the App on one first"):
        await offers.newest()


async def test_an_executor_is_told_and_nobody_else():
    async with world() as here:
        here.plane.github.newest = NEW  # type: ignore[attr-defined]  # it is the fake
        found = await here.client.get("/v1/releases", headers=here.bearer("executor"))
        assert found.status_code == 200
        assert found.headers["cache-control"] == "no-store"
        assert found.json() == [
            {
                "os": "linux",
                "architecture": "x64",
                "filename": "actions-runner-linux-x64-2.336.0.tar.gz",
                "url": offer(NEW).url,
                "sha256": "0" * 64,
                "token": None,
            }
        ]
        refused = await here.client.get("/v1/releases", headers=here.bearer("operator"))
        assert refused.status_code == 403
        assert (await here.client.get("/v1/releases")).status_code == 401


def test_a_token_for_the_download_is_not_shown():
    secret = Offer(
        os="linux", architecture="x64", filename="f", url="u", sha256=None, token="do-not-show"
    )
    assert "do-not-show" not in repr(secret)
    assert timedelta(minutes=10) == KEPT_FOR
