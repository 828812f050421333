"""Runners of repositories and organizations, as the API shows and takes them."""

from __future__ import annotations

import base64
import json
from hashlib import sha256

import httpx
import pytest

from .support import ONE_JOB, REPOSITORY, RUNNERS, Client

ORG_RUNNERS = "/orgs/octo-org/actions/runners"
BOTH = pytest.mark.parametrize("runners", [RUNNERS, ORG_RUNNERS])


def asked(name: str, *labels: str, group: int = 1) -> dict[str, object]:
    return {"name": name, "runner_group_id": group, "labels": list(labels) or ["self-hosted"]}


@BOTH
async def test_a_jit_config_registers_an_offline_runner(github: Client, runners: str) -> None:
    answer = await github.repo("POST", f"{runners}/generate-jitconfig", json=asked("one", "a", "B"))
    assert answer.status_code == 201
    runner = answer.json()["runner"]
    assert (runner["status"], runner["busy"]) == ("offline", False)
    assert [label["name"] for label in runner["labels"]] == ["a", "B"]
    one = await github.repo("GET", f"{runners}/{runner['id']}")
    assert one.json() == runner
    assert (await github.repo("GET", runners)).json()["runners"] == [runner]


async def test_a_jit_config_holds_the_three_files_of_a_runner(github: Client) -> None:
    outer = json.loads(base64.b64decode(await github.jitconfig("one")))
    files = {name: json.loads(base64.b64decode(inner)) for name, inner in outer.items()}
    assert files.keys() == {".runner", ".credentials", ".credentials_rsaparams"}
    assert files[".runner"]["AgentName"] == "one"
    assert files[".runner"]["Ephemeral"] == "True"
    assert files[".runner"]["GitHubUrl"].endswith("/octo-org/octo-repo")
    assert files[".credentials"]["Scheme"] == "OAuth"


@BOTH
async def test_a_name_is_given_once(github: Client, runners: str) -> None:
    await github.jitconfig("one", runners=runners)
    again = await github.repo("POST", f"{runners}/generate-jitconfig", json=asked("ONE"))
    assert again.status_code == 409
    wanted = "Already exists - A runner with the name *** already exists."
    assert again.json()["message"] == wanted


@BOTH
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (asked(""), 422),
        (asked("n" * 65), 422),
        (asked("n", "l" * 257), 422),
        (asked("n", *map(str, range(101))), 422),
        ({"name": "n", "runner_group_id": 1, "labels": []}, 422),
        ({"name": "n"}, 422),
        (asked("n", group=99), 404),
    ],
)
async def test_a_wrong_jit_request_is_refused(
    github: Client, runners: str, body: dict[str, object], status: int
) -> None:
    answer = await github.repo("POST", f"{runners}/generate-jitconfig", json=body)
    assert answer.status_code == status
    assert (await github.repo("GET", runners)).json()["total_count"] == 0


@BOTH
async def test_runners_are_listed_in_pages_and_by_name(github: Client, runners: str) -> None:
    for number in range(3):
        await github.jitconfig(f"runner-{number}", runners=runners)
    first = await github.repo("GET", f"{runners}?per_page=2")
    assert first.json()["total_count"] == 3
    second = await github.repo("GET", first.links["next"]["url"])
    assert [r["name"] for r in second.json()["runners"]] == ["runner-2"]
    named = await github.repo("GET", f"{runners}?name=runner-1")
    assert [r["name"] for r in named.json()["runners"]] == ["runner-1"]


async def test_a_repository_does_not_show_its_organizations_runners(github: Client) -> None:
    await github.jitconfig("one", runners=ORG_RUNNERS)
    runner = (await github.repo("GET", ORG_RUNNERS)).json()["runners"][0]
    assert (await github.repo("GET", RUNNERS)).json()["total_count"] == 0
    assert (await github.repo("GET", f"{RUNNERS}/{runner['id']}")).status_code == 404


@BOTH
async def test_an_idle_runner_is_deleted_once(github: Client, runners: str) -> None:
    await github.jitconfig("one", runners=runners)
    number = (await github.repo("GET", runners)).json()["runners"][0]["id"]
    assert (await github.repo("DELETE", f"{runners}/{number}")).status_code == 204
    assert (await github.repo("DELETE", f"{runners}/{number}")).status_code == 404
    assert (await github.repo("GET", f"{runners}/{number}")).status_code == 404


async def test_a_busy_runner_is_not_deleted(github: Client) -> None:
    busy = github.sim.add_runner(
        "octo-org", "octo-repo", "busy", ("self-hosted", "linux"), after_ms=None
    )
    job = github.sim.dispatch("octo-org", "octo-repo", ONE_JOB).job_ids[0]
    assert await github.sim.wait_job(job, "in_progress")
    refused = await github.repo("DELETE", f"{RUNNERS}/{busy.id}")
    assert refused.status_code == 422
    assert "currently running a job" in refused.json()["message"]
    github.sim.complete_job(job)
    assert (await github.repo("DELETE", f"{RUNNERS}/{busy.id}")).status_code == 404


@BOTH
async def test_downloads_and_registration_tokens_are_offered(github: Client, runners: str) -> None:
    downloads = (await github.repo("GET", f"{runners}/downloads")).json()
    assert {d["architecture"] for d in downloads} == {"x64", "arm64"}
    token = await github.repo("POST", f"{runners}/registration-token")
    assert token.status_code == 201
    assert token.json()["token"]


@BOTH
async def test_another_release_is_offered_when_it_is_out(github: Client, runners: str) -> None:
    await github.control("PUT", "/release", json={"version": "2.337.1"})
    for offered in (await github.repo("GET", f"{runners}/downloads")).json():
        assert offered["filename"].endswith("-2.337.1.tar.gz")
        assert "/v2.337.1/" in offered["download_url"]


@BOTH
async def test_what_is_offered_can_be_downloaded_and_has_its_checksum(
    github: Client, runners: str
) -> None:
    (offered, other) = (await github.repo("GET", f"{runners}/downloads")).json()
    assert offered["sha256_checksum"] != other["sha256_checksum"]
    async with httpx.AsyncClient(trust_env=False, follow_redirects=True) as anybody:
        whole = await anybody.get(offered["download_url"])
        assert sha256(whole.content).hexdigest() == offered["sha256_checksum"]
        missing = await anybody.get(offered["download_url"].replace("linux", "plan9"))
    assert (whole.history[0].status_code, missing.status_code) == (302, 404)


async def test_a_part_of_a_download_is_given_when_it_is_of_the_same_file(github: Client) -> None:
    (offered, _) = (await github.repo("GET", f"{RUNNERS}/downloads")).json()
    async with httpx.AsyncClient(trust_env=False, follow_redirects=True) as anybody:

        async def got(**headers: str) -> httpx.Response:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return await anybody.get(offered["download_url"], headers=named)

        whole = await got()
        etag, size = whole.headers["etag"], len(whole.content)
        part = await got(range="bytes=100-", if_range=etag)
        assert (part.status_code, part.content) == (206, whole.content[100:])
        assert part.headers["content-range"] == f"bytes 100-{size - 1}/{size}"
        assert (await got(range="bytes=100-", if_range='"another"')).status_code == 200
        assert (await got(range=f"bytes={size}-")).status_code == 416


async def test_downloads_go_wrong_on_purpose(github: Client) -> None:
    rules = [
        {"fault": "wrong_checksum", "count": 1},
        {"fault": "corrupted", "after_bytes": 7, "count": 1},
        {"fault": "interrupted", "after_bytes": 1000, "count": 1},
        {"fault": "slow", "bytes_per_second": 1_000_000, "count": 1},
    ]
    await github.control("PUT", "/faults", json={"downloads": rules})
    (wrong, _) = (await github.repo("GET", f"{RUNNERS}/downloads")).json()
    (right, _) = (await github.repo("GET", f"{RUNNERS}/downloads")).json()
    assert wrong["sha256_checksum"] != right["sha256_checksum"]
    async with httpx.AsyncClient(trust_env=False, follow_redirects=True) as anybody:
        corrupted = (await anybody.get(right["download_url"])).content
        with pytest.raises(httpx.RemoteProtocolError):
            await anybody.get(right["download_url"])
        slow = (await anybody.get(right["download_url"])).content
    assert sha256(slow).hexdigest() == right["sha256_checksum"]
    assert [n for n, (a, b) in enumerate(zip(corrupted, slow, strict=True)) if a != b] == [7]


async def test_a_runner_shows_its_version_once_it_has_connected(github: Client) -> None:
    minted = await github.repo("POST", f"{RUNNERS}/generate-jitconfig", json=asked("one"))
    assert minted.json()["runner"]["version"] is None
    github.sim.add_runner("octo-org", "octo-repo", "online", ("self-hosted", "linux"))
    listed = (await github.repo("GET", RUNNERS)).json()["runners"]
    assert [(r["name"], r["version"]) for r in listed] == [("one", None), ("online", "2.336.0")]


async def test_runner_groups_are_listed_created_and_used(github: Client) -> None:
    groups = "/orgs/octo-org/actions/runner-groups"
    made = await github.repo("POST", groups, json={"name": "team"})
    assert made.status_code == 201
    listed = (await github.repo("GET", groups)).json()["runner_groups"]
    assert [g["name"] for g in listed] == ["Default", "team"]
    body = asked("one", group=made.json()["id"])
    answer = await github.repo("POST", f"{ORG_RUNNERS}/generate-jitconfig", json=body)
    assert answer.json()["runner"]["runner_group_id"] == made.json()["id"]


async def test_what_github_does_not_serve_is_not_found(github: Client) -> None:
    for method, path in (("GET", f"{REPOSITORY}/nothing"), ("GET", f"{RUNNERS}/abc")):
        answer = await github.http.request(method, path)
        assert (answer.status_code, answer.json()["message"]) == (404, "Not Found")
