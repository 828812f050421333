"""Who may ask for what, and GitHub's words for those who may not."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from mayfly.simulator import Account, Settings, generate_app_key

from .support import REPOSITORY, RUNNERS, Client, app_token, simulated

UNDECODABLE = "A JSON web token could not be decoded"
EXPIRED = (
    "'Expiration time' claim ('exp') must be a numeric value representing the future "
    "time at which the assertion expires"
)
ISSUED_AT = (
    "'Issued at' claim ('iat') must be an Integer representing the time that the "
    "assertion was issued"
)


@pytest.mark.parametrize("issuer", ["4711", "Iv23liMayflySimulator"])
async def test_the_app_may_name_itself_by_id_or_client_id(github: Client, issuer: str) -> None:
    assert (await github.call("GET", "/app", token=app_token(issuer=issuer))).status_code == 200


@pytest.mark.parametrize(
    ("made", "status", "message"),  # when the test runs: a token ages
    [
        (lambda: None, 401, UNDECODABLE),
        (lambda: "ghs_nonsense", 401, UNDECODABLE),
        (lambda: app_token(key=generate_app_key()[0]), 401, UNDECODABLE),
        (lambda: app_token(issuer="1"), 404, "Integration not found"),
        (
            lambda: app_token(expires=700),
            401,
            "'Expiration time' claim ('exp') is too far in the future",
        ),
        (
            lambda: app_token(issued=-600, expires=-5),
            401,
            EXPIRED,
        ),
        (
            lambda: app_token(issued=120),
            401,
            ISSUED_AT,
        ),
    ],
)
async def test_a_wrong_app_token_is_refused_in_githubs_words(
    github: Client, made: Callable[[], str | None], status: int, message: str
) -> None:
    answer = await github.call("GET", "/app", token=made())
    assert (answer.status_code, answer.json()["message"]) == (status, message)


async def test_an_installation_token_is_demanded_where_github_demands_one(github: Client) -> None:
    for token, message in (
        (None, "Requires authentication"),
        ("ghs_unknown", "Bad credentials"),
        (app_token(), "Bad credentials"),
    ):
        answer = await github.call("GET", "/installation/repositories", token=token)
        assert (answer.status_code, answer.json()["message"]) == (401, message)


async def test_tokens_expire() -> None:
    async with simulated(Settings(token_seconds=3600)) as github:
        token = await github.token()
        await github.control("POST", "/tokens/expire")
        answer = await github.call("GET", "/installation/repositories", token=token)
        assert (answer.status_code, answer.json()["message"]) == (401, "Bad credentials")


async def test_expiry_is_told_with_the_token(github: Client) -> None:
    installation = github.sim.world.accounts.installation_of("octo-org")
    assert installation is not None
    answer = await github.app("POST", f"/app/installations/{installation.id}/access_tokens")
    hour = time.strftime("%Y-%m-%dT%H", time.gmtime(time.time() + 3600))
    assert answer.json()["expires_at"].startswith(hour)


async def test_a_missing_permission_is_forbidden_and_a_foreign_repository_is_not_found() -> None:
    accounts = (
        Account(login="octo-org", repositories=("octo-repo",), permissions={"actions": "read"}),
        Account(login="others", repositories=("theirs",)),
    )
    async with simulated(Settings(accounts=accounts)) as github:
        allowed = await github.repo("GET", f"{REPOSITORY}/actions/runs")
        assert allowed.status_code == 200
        for path in (RUNNERS, "/orgs/octo-org/actions/runners"):
            refused = await github.repo("GET", path)
            assert refused.status_code == 403
            assert refused.json()["message"] == "Resource not accessible by integration"
        for path in (
            "/repos/others/theirs/actions/runs",
            "/repos/octo-org/unknown/actions/runs",
            "/orgs/others/actions/runners",
            "/orgs/unknown/actions/runners",
        ):
            assert (await github.repo("GET", path)).status_code == 404


async def test_a_repository_taken_out_of_the_installation_is_gone_for_its_tokens(
    github: Client,
) -> None:
    assert (await github.repo("GET", RUNNERS)).status_code == 200
    github.sim.deselect_repository("octo-org", "octo-repo")
    assert (await github.repo("GET", RUNNERS)).status_code == 404
    listed = await github.repo("GET", "/installation/repositories")
    assert listed.json()["total_count"] == 0


async def test_a_permission_taken_back_is_gone_for_tokens_made_before(github: Client) -> None:
    assert (await github.repo("GET", RUNNERS)).status_code == 200
    installation = github.sim.world.accounts.installation_of("octo-org")
    assert installation is not None
    change = {"permissions": {"metadata": "read"}}
    await github.control("PATCH", f"/installations/{installation.id}", json=change)
    assert (await github.repo("GET", RUNNERS)).status_code == 403


async def test_a_personal_account_grants_nothing_of_an_organization() -> None:
    accounts = (Account(login="monalisa", type="User", repositories=("dotfiles",)),)
    async with simulated(Settings(accounts=accounts)) as github:
        token = await github.token("monalisa")
        assert (
            await github.call("GET", "/repos/monalisa/dotfiles/actions/runners", token=token)
        ).status_code == 200
        assert (
            await github.call("GET", "/orgs/monalisa/actions/runners", token=token)
        ).status_code == 404
