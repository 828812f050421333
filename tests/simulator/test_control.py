"""The control API, as another process uses it."""

from __future__ import annotations

from pathlib import Path

from mayfly.simulator import Settings

from .support import ONE_JOB, PUBLIC_KEY, Client, Receiver, simulated

ASKED = {"owner": "octo-org", "repo": "octo-repo"}


async def test_a_workflow_is_dispatched_by_text_and_by_path(github: Client, tmp_path: Path) -> None:
    by_text = await github.control("POST", "/workflows", json=ASKED | {"yaml": ONE_JOB})
    assert by_text.json()["jobs"].keys() == {"build"}
    file = tmp_path / "ci.yml"
    file.write_text(ONE_JOB)
    by_path = await github.control("POST", "/workflows", json=ASKED | {"path": str(file)})
    assert by_path.json()["run_id"] != by_text.json()["run_id"]
    for wrong in ({"yaml": "nonsense"}, {"path": "/nowhere"}, {"yml": ONE_JOB}):
        refused = await github.http.post("/_simulator/workflows", json=ASKED | wrong)
        assert refused.status_code == 422
    unknown = {"owner": "octo-org", "repo": "unknown", "yaml": ONE_JOB}
    assert (await github.http.post("/_simulator/workflows", json=unknown)).status_code == 404


async def test_waiting_ends_when_it_is_so_or_when_time_is_up(github: Client) -> None:
    made = (await github.control("POST", "/workflows", json=ASKED | {"yaml": ONE_JOB})).json()
    job = made["job_ids"][0]
    late = await github.http.get(f"/_simulator/wait?job={job}&state=in_progress&timeout=0.05")
    assert late.status_code == 408
    runner = {"owner": "octo-org", "name": "foreign", "labels": ["self-hosted", "linux"]}
    await github.control("POST", "/runners", json=runner | {"after_ms": 20})
    for query in (
        f"job={job}&state=in_progress",
        f"job={job}&state=success",
        f"run={made['run_id']}",
        "jobs=completed",
        "runner=foreign&state=gone",
        "deliveries=idle",
    ):
        assert (await github.control("GET", f"/wait?{query}&timeout=5")).json() == {"ok": True}
    assert (await github.http.get("/_simulator/wait")).status_code == 422


async def test_the_state_shows_everything(github: Client) -> None:
    github.sim.add_runner("octo-org", None, "foreign", ("self-hosted", "linux"), after_ms=None)
    made = github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    await github.token()
    assert await github.sim.wait_deliveries()
    state = (await github.control("GET", "/state")).json()
    assert [job["status"] for job in state["jobs"]] == ["in_progress"]
    assert state["runs"][0]["repository"] == "octo-org/octo-repo"
    runner = state["runners"][0]
    assert (runner["job_id"], runner["virtual"]) == (made.job_ids[0], True)
    assert [d["action"] for d in state["deliveries"]] == ["queued", "in_progress"]
    assert len(state["tokens"]) == 1
    assert "ghs_" not in str(state["tokens"])
    ended = {"conclusion": "failure"}
    await github.control("POST", f"/jobs/{made.job_ids[0]}/complete", json=ended)
    job = (await github.control("GET", f"/jobs/{made.job_ids[0]}")).json()
    assert (job["conclusion"], job["log"]) == ("failure", [])


async def test_owners_repositories_and_installations_come_and_go(
    github: Client, hook: Receiver
) -> None:
    await github.control("PUT", "/webhook", json={"url": hook.url})
    owner = {"login": "newcomer", "type": "User", "repositories": ["first"]}
    made = (await github.control("POST", "/owners", json=owner)).json()
    number = made["installation_id"]
    again = await github.http.post("/_simulator/owners", json=owner)
    assert again.status_code == 409
    await github.control("POST", "/repositories", json={"owner": "newcomer", "name": "second"})
    token = await github.token("newcomer")

    async def seen() -> list[str]:
        answer = await github.call("GET", "/installation/repositories", token=token)
        return [r["name"] for r in answer.json()["repositories"]]

    assert await seen() == ["first", "second"]
    await github.control("DELETE", f"/installations/{number}/repositories/first")
    assert await seen() == ["second"]
    await github.control("PATCH", f"/installations/{number}", json={"repositories": ["first"]})
    assert await seen() == ["first"]
    await github.control("DELETE", "/repositories/newcomer/first")
    assert await seen() == []
    await github.control("PATCH", f"/installations/{number}", json={"suspended": True})
    await github.control("PATCH", f"/installations/{number}", json={"suspended": False})
    await github.control("DELETE", f"/installations/{number}")
    back = await github.control("POST", "/installations", json={"owner": "newcomer"})
    assert back.json()["id"] != number
    assert await github.sim.wait_deliveries()
    wanted = ["created", "removed", "suspend", "unsuspend", "deleted", "created"]
    assert [action for action in hook.actions if action in wanted] == hook.actions
    assert sorted(hook.actions) == sorted(wanted)


async def test_workflows_of_the_settings_run_from_the_start(tmp_path: Path) -> None:
    file = tmp_path / "ci.yml"
    file.write_text(ONE_JOB)
    settings = Settings(workflows=(str(file),), app_public_key=PUBLIC_KEY)
    async with simulated(settings) as github:
        state = (await github.control("GET", "/state")).json()
        assert [job["name"] for job in state["jobs"]] == ["build"]


async def test_a_delivery_can_be_read_and_sent_again(github: Client, hook: Receiver) -> None:
    github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    assert await github.sim.wait_deliveries()
    number = (await github.control("GET", "/state")).json()["deliveries"][0]["id"]
    shown = (await github.control("GET", f"/deliveries/{number}")).json()
    assert shown["payload"]["action"] == "queued"
    github.sim.set_webhook(hook.url)
    await github.control("POST", f"/deliveries/{number}/redeliver")
    assert await github.sim.wait_deliveries()
    assert hook.actions == ["queued"]


async def test_runs_can_be_cancelled_and_run_again(github: Client) -> None:
    made = github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    await github.control("POST", f"/runs/{made.run_id}/cancel")
    again = (await github.control("POST", f"/runs/{made.run_id}/rerun")).json()
    assert again["run_id"] == made.run_id
    assert set(again["job_ids"]).isdisjoint(made.job_ids)
