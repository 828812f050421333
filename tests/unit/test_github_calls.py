"""The App against answers no simulator gives: redirects, nonsense, old servers, lost replies."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from mayfly.github.app import GitHubApp, Settings, open_github
from mayfly.github.secrets import Secret
from mayfly.model.access import Scope
from mayfly.model.errors import (
    GitHubRefused,
    GitHubUnreachable,
    InvalidSettings,
    RateLimited,
    RefusalKind,
)
from mayfly.model.jobs import InstallationId, JobState
from mayfly.model.runners import Sighting
from tests.fakes.canned_github import (
    API,
    JOB,
    ONE,
    PEM,
    TOKEN,
    CannedGitHub,
    Reply,
    Route,
    SystemClock,
    github,
    reply,
    token,
)

REPO = Scope("repos/octo-org/octo-repo")
RUNNERS = "/repos/octo-org/octo-repo/actions/runners"
JIT = {"runner": {"id": 21, "name": "m-1", "labels": []}, "encoded_jit_config": "c2VjcmV0"}


async def mint(app: GitHubApp, scope: Scope = REPO) -> Any:
    return await app.mint(ONE, scope, "m-1", ["self-hosted", "linux"])


async def test_a_mint_asks_for_exactly_one_runner_with_exactly_these_labels():
    async with github({f"POST {RUNNERS}/generate-jitconfig": reply(201, JIT)}) as (app, canned):
        minted = await mint(app)
    assert minted == (21, "c2VjcmV0")
    sent = canned.requests[-1]
    assert json.loads(sent.content) == {
        "name": "m-1",
        "runner_group_id": 1,
        "labels": ["self-hosted", "linux"],
        "work_folder": "_work",
    }
    assert sent.headers["authorization"] == f"Bearer {TOKEN}"
    assert str(sent.url).startswith(API + "/repos/")


class HangingGitHub(CannedGitHub):
    """Never answers the first installation, and counts who asks."""

    async def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/hello/actions/runners/generate-jitconfig"):
            self.requests.append(request)
            await asyncio.Event().wait()
        return self(request)


async def test_an_installation_that_hangs_leaves_room_for_the_others():
    two = InstallationId(2)
    hanging = HangingGitHub(
        {
            "POST /app/installations/2/access_tokens": token(),
            f"POST {RUNNERS}/generate-jitconfig": reply(201, JIT),
        }
    )
    settings = Settings(app_id="4711", private_key=Secret(PEM), api_url=API, concurrency=5)
    transport = httpx.MockTransport(hanging.answer)
    async with open_github(settings, SystemClock(), transport) as app:
        silent = [asyncio.create_task(mint(app, Scope("repos/mona/hello"))) for _ in range(20)]
        for _ in range(1000):
            await asyncio.sleep(0)
        assert len(hanging.requests) == 4, "a token, and three mints"
        async with asyncio.timeout(30):
            await app.mint(two, REPO, "m-1", ["self-hosted", "linux"])
        assert len(hanging.requests) == 6
        for task in silent:
            task.cancel()
        await asyncio.gather(*silent, return_exceptions=True)


@pytest.mark.parametrize(
    "scope",
    [
        "repos/../admin",
        "repos/octo-org/..",
        "repos/octo-org/.",
        "repos/octo-org/a/b",
        "repos/octo-org",
        "repos/octo-org/",
        "repos//octo-repo",
        "orgs/octo-org/../x",
        "orgs/%2e%2e",
        "orgs/octo?x=1",
        "orgs/octo#x",
        "orgs/octo org",
        "orgs/octo\r\nx: y",
        "orgs/{octo}",
        "enterprises/octo",
        "",
    ],
)
async def test_names_github_cannot_have_never_become_a_path(scope):
    async with github({}) as (app, canned):
        with pytest.raises(GitHubRefused) as raised:
            await mint(app, Scope(scope))
    assert raised.value.kind is RefusalKind.INVALID_REQUEST
    assert canned.asked == []


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ConnectTimeout("slow"),
        httpx.ReadTimeout("slow"),
        httpx.ConnectError("refused"),
        httpx.RemoteProtocolError("Server disconnected without sending a response."),
        httpx.Response(502, html="<h1>Bad gateway</h1>"),
        httpx.Response(503, json={"message": "Unavailable"}),
        httpx.Response(201, text="<html>", headers={"content-type": "text/html"}),
        httpx.Response(201, content=b"{", headers={"content-type": "application/json"}),
        httpx.Response(201, content=b"\xff", headers={"content-type": "application/json"}),
        httpx.Response(201, content=b"[" * 100_000, headers={"content-type": "application/json"}),
        httpx.Response(201, content=b"{}", headers={"content-type": "application/json;charset=x"}),
        httpx.Response(201),
        reply(201, {}),
        reply(201, []),
        reply(201, JIT | {"encoded_jit_config": ""}),
        reply(201, JIT | {"runner": {"id": "21", "name": "m-1"}}),
        reply(201, JIT, x_ratelimit_limit="many", x_ratelimit_remaining="a", x_ratelimit_reset="b"),
    ],
    ids=repr,
)
async def test_a_mint_without_a_proper_answer_may_have_happened(answer):
    async with github({f"POST {RUNNERS}/generate-jitconfig": answer}) as (app, canned):
        with pytest.raises(GitHubUnreachable) as raised:
            await mint(app)
    assert raised.value.__cause__ is not None or answer.status_code >= 500
    assert len(canned.asked) == 2, "a mint is never repeated here"


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404, text="nginx"),
        httpx.Response(422, text="no"),
        httpx.Response(422, json={}),
        httpx.Response(422, json=[]),
        httpx.Response(422, json={"errors": [1, None, "x"]}),
        httpx.Response(499, json={"message": "odd"}),
        httpx.Response(400, content=b"\xff", headers={"content-type": "application/json"}),
    ],
    ids=repr,
)
async def test_a_refusal_in_any_shape_is_a_refusal(answer):
    async with github({f"POST {RUNNERS}/generate-jitconfig": answer}) as (app, _):
        with pytest.raises(GitHubRefused):
            await mint(app)


async def test_a_disabled_repository_is_recognised_by_the_errors_beside_the_message():
    disabled = {
        "message": "Forbidden",
        "errors": "Repository level self-hosted runners are disabled on this repository",
    }
    async with github({f"POST {RUNNERS}/generate-jitconfig": reply(403, disabled)}) as (app, _):
        with pytest.raises(GitHubRefused) as raised:
            await mint(app)
    assert raised.value.kind is RefusalKind.RUNNERS_DISABLED


async def test_a_renamed_repository_is_followed_on_the_same_github_with_the_same_verb():
    moved = reply(307, {"message": "Moved"}, location=f"{API}/repositories/9/actions/runners/21")
    routes: dict[str, Route] = {
        f"DELETE {RUNNERS}/21": moved,
        "DELETE /repositories/9/actions/runners/21": reply(204),
    }
    async with github(routes) as (app, canned):
        assert await app.delete_runner(ONE, REPO, 21) is Sighting.GONE
    assert canned.asked[-1] == "DELETE /repositories/9/actions/runners/21"


@pytest.mark.parametrize(
    "location",
    [
        "https://evil.example/api/v3/repositories/9",
        "http://ghe.example/api/v3/repositories/9",
        "https://ghe.example:8443/api/v3/repositories/9",
        "//evil.example/api/v3/",
        "/elsewhere",
        "",
    ],
)
async def test_a_redirect_that_leads_away_gets_no_token(location):
    moved = reply(301, {"message": "Moved"}, location=location)
    async with github({f"POST {RUNNERS}/generate-jitconfig": moved}) as (app, canned):
        with pytest.raises(GitHubRefused) as raised:
            await mint(app)
    assert raised.value.kind is RefusalKind.REPOSITORY_GONE
    assert len(canned.requests) == 2


async def test_an_old_server_that_ignores_the_name_is_read_to_the_end():
    def page(request: httpx.Request) -> Reply:
        start = (int(request.url.params["page"]) - 1) * 100
        runners = [{"id": i + 1, "name": f"r-{i}"} for i in range(start, min(start + 100, 250))]
        return reply(200, {"total_count": 250, "runners": runners})

    async with github({f"GET {RUNNERS}": page}) as (app, canned):
        found = await app.find_runner(ONE, REPO, "r-240")
        assert found is not None
        assert found.id == 241
        assert await app.find_runner(ONE, REPO, "R-240") is None
        assert await app.find_runner(ONE, REPO, "r-2") is not None
    assert canned.requests[1].url.params["name"] == "r-240"


async def test_a_list_that_promises_more_than_it_gives_ends():
    empty = reply(200, {"total_count": 9, "runners": []})
    async with github({f"GET {RUNNERS}": empty}) as (app, canned):
        assert await app.find_runner(ONE, REPO, "m-1") is None
    assert len(canned.requests) == 2


async def test_a_list_without_a_total_is_followed_by_its_links():
    def page(request: httpx.Request) -> Reply:
        start = (int(request.url.params["page"]) - 1) * 100
        ids = [{"id": i + 1} for i in range(start, min(start + 100, 250))]
        # Another name of the same server: the path is ours to choose, the token stays here.
        link = '<https://internal.example/app/installations?page=9>; rel="next"'
        return reply(200, ids, link=link) if start < 200 else reply(200, ids)

    async with github({"GET /app/installations": page}) as (app, canned):
        assert [found.id for found in await app.installations()] == list(range(1, 251))
    assert {request.url.host for request in canned.requests} == {"ghe.example"}


async def test_a_token_that_is_refused_is_replaced_once():
    bad = reply(401, {"message": "Bad credentials"})
    routes: dict[str, Route] = {f"POST {RUNNERS}/generate-jitconfig": [bad, reply(201, JIT)]}
    async with github(routes) as (app, canned):
        assert (await mint(app)).github_id == 21
    assert canned.asked.count("POST /app/installations/1/access_tokens") == 2


async def test_a_fresh_token_that_is_refused_too_is_githubs_trouble_for_now():
    bad = reply(401, {"message": "Bad credentials"})
    async with github({f"POST {RUNNERS}/generate-jitconfig": bad}) as (app, canned):
        with pytest.raises(GitHubUnreachable):
            await mint(app)
    assert len(canned.asked) == 4


async def test_a_permission_granted_since_the_token_was_made_is_used_at_once():
    lacking = reply(403, {"message": "Resource not accessible by integration"})
    routes: dict[str, Route] = {f"POST {RUNNERS}/generate-jitconfig": [lacking, reply(201, JIT)]}
    async with github(routes) as (app, _):
        assert (await mint(app)).github_id == 21


@pytest.mark.parametrize("text", ["a\nb", "a\n", "", "ключ", "x" * 5000])
async def test_a_token_that_fits_in_no_header_is_not_used_and_not_shown(text):
    routes: dict[str, Route] = {"POST /app/installations/1/access_tokens": token(token=text)}
    async with github(routes) as (app, canned):
        with pytest.raises(GitHubUnreachable) as raised:
            await mint(app)
    assert len(canned.asked) == 1
    assert not text or text not in str(raised.value)


async def test_a_limit_silences_the_installation_and_no_other():
    limited = reply(403, {"message": "You have exceeded a secondary rate limit."}, retry_after="60")
    routes: dict[str, Route] = {
        f"POST {RUNNERS}/generate-jitconfig": limited,
        f"GET {RUNNERS}": reply(200, {"total_count": 0, "runners": []}),
        "POST /app/installations/2/access_tokens": lambda _: token(),
    }
    async with github(routes) as (app, canned):
        with pytest.raises(RateLimited) as raised:
            await mint(app)
        assert raised.value.retry_at is not None
        before = len(canned.asked)
        for again in (mint(app), app.find_runner(ONE, REPO, "m-1")):
            with pytest.raises(RateLimited):
                await again
        assert len(canned.asked) == before
        assert await app.find_runner(InstallationId(2), REPO, "m-1") is None


async def test_a_storm_of_redeliveries_keeps_nobody_from_minting():
    routes: dict[str, Route] = {
        "POST /app/hook/deliveries/3/attempts": lambda _: reply(202, {}),
        f"POST {RUNNERS}/generate-jitconfig": reply(201, JIT),
    }
    async with github(routes) as (app, canned):
        for _ in range(126):
            await app.redeliver(3)
        with pytest.raises(RateLimited):
            await app.redeliver(3)
        assert len(canned.requests) == 126
        assert (await mint(app)).github_id == 21


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("queued", JobState.QUEUED),
        ("in_progress", JobState.IN_PROGRESS),
        ("completed", JobState.COMPLETED),
        ("waiting", JobState.WAITING),
        ("pending", JobState.WAITING),
        ("requested", JobState.WAITING),
        ("invented_tomorrow", JobState.WAITING),
    ],
)
async def test_the_state_of_a_job_is_its_status(status, state):
    routes: dict[str, Route] = {
        "GET /repos/octo-org/octo-repo/actions/jobs/11": reply(200, JOB | {"status": status}),
        "GET /app/installations/1": reply(200, {"id": 1, "target_type": "Organization"}),
    }
    async with github(routes) as (app, _):
        event = await app.get_job(ONE, "octo-org", "octo-repo", 11)
    assert event is not None
    assert event.state is state
    assert event.owner_is_organization
    assert "\0" not in event.name


async def test_one_job_that_cannot_be_read_hides_no_other():
    jobs = [JOB | {"labels": None}, JOB | {"status": "queued"}, JOB | {"created_at": None}]
    routes: dict[str, Route] = {
        "GET /repos/octo-org/octo-repo/actions/runs/7/attempts/1/jobs": reply(
            200, {"total_count": 3, "jobs": jobs}
        ),
        "GET /app/installations/1": reply(200, {"id": 1, "account": {"type": "User"}}),
    }
    async with github(routes) as (app, _):
        with capture_logs() as logs:
            events = await app.run_jobs(ONE, "octo-org", "octo-repo", 7, 1)
    assert [event.state for event in events] == [JobState.QUEUED]
    assert not events[0].owner_is_organization
    assert [entry["event"] for entry in logs] == ["job.skipped"]


async def test_the_path_of_a_puzzling_answer_is_logged_without_numbers():
    routes: dict[str, Route] = {
        f"DELETE {RUNNERS}/21": reply(418, {"message": ""}, x_github_request_id="A:1"),
    }
    async with github(routes) as (app, _):
        with capture_logs() as logs, pytest.raises(GitHubRefused):
            await app.delete_runner(ONE, REPO, 21)
    assert logs == [
        {
            "event": "github.puzzled",
            "log_level": "warning",
            "method": "DELETE",
            "path": f"{RUNNERS}/{{id}}",
            "status": 418,
            "request_id": "A:1",
            "message": "nothing",
        }
    ]


async def test_a_token_that_is_refused_puzzles_nobody():
    bad = reply(401, {"message": "Bad credentials"})
    routes: dict[str, Route] = {f"POST {RUNNERS}/generate-jitconfig": [bad, reply(201, JIT)]}
    async with github(routes) as (app, _):
        with capture_logs() as logs:
            await mint(app)
    assert logs == []


async def test_nothing_secret_is_logged_or_said_when_everything_fails():
    routes: dict[str, Route] = {
        f"POST {RUNNERS}/generate-jitconfig": reply(500, {"message": "Server Error"}),
    }
    async with github(routes) as (app, canned):
        with capture_logs() as logs, pytest.raises(GitHubUnreachable) as raised:
            await mint(app)
    jwt = canned.requests[0].headers["authorization"].split()[1]
    said = f"{logs} {raised.value!r} {raised.value.__cause__!r}"
    assert not any(secret in said for secret in (TOKEN, jwt, PEM.splitlines()[1]))


@pytest.mark.parametrize(
    "change",
    [
        {"api_url": "api.github.com"},
        {"api_url": "ftp://api.github.com"},
        {"api_url": "https://"},
        {"api_url": "https://[::1"},
        {"api_url": "https://ghe.example:port"},
        {"api_url": "https://user:planted@api.github.com"},
        {"app_id": " "},
        {"mints_per_minute": 0},
        {"concurrency": 0},
        {"call_seconds": 0.0},
        {"private_key": Secret("planted")},
    ],
)
async def test_settings_that_cannot_work_are_refused_before_anything_starts(change):
    settings = Settings(**({"app_id": "4711", "private_key": Secret(PEM)} | change))
    with pytest.raises(InvalidSettings) as raised:
        async with open_github(settings, SystemClock()):
            pass
    assert "planted" not in str(raised.value)
    assert "planted" not in repr(settings.private_key)
