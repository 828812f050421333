"""The App's own endpoints."""

from __future__ import annotations

from mayfly.simulator import Account, Settings
from mayfly.simulator.deliveries import signature

from .support import ONE_JOB, REPOSITORY, Client, Receiver, simulated


def _installation(github: Client, login: str = "octo-org") -> int:
    found = github.sim.world.accounts.installation_of(login)
    assert found is not None
    return found.id


async def test_the_app_describes_itself(github: Client) -> None:
    app = (await github.app("GET", "/app")).json()
    assert (app["id"], app["installations_count"]) == (4711, 1)


async def test_the_enterprise_prefix_leads_to_the_same_api(github: Client) -> None:
    assert (await github.app("GET", "/api/v3/app")).json()["id"] == 4711


async def test_installations_are_listed_and_found_by_owner_and_repository() -> None:
    accounts = (
        Account(login="octo-org", repositories=("octo-repo",), installation_id=1),
        Account(login="monalisa", type="User", repositories=("dotfiles",), installation_id=2),
        Account(login="strangers", repositories=("theirs",), installed=False),
    )
    async with simulated(Settings(accounts=accounts)) as github:
        listed = await github.app("GET", "/app/installations")
        assert [i["id"] for i in listed.json()] == [1, 2]
        one = await github.app("GET", "/app/installations/2")
        assert one.json()["target_type"] == "User"
        for path, wanted in (
            ("/repos/octo-org/octo-repo/installation", 1),
            ("/orgs/OCTO-ORG/installation", 1),
            ("/users/monalisa/installation", 2),
        ):
            assert (await github.app("GET", path)).json()["id"] == wanted
        for path in (
            "/repos/strangers/theirs/installation",
            "/orgs/strangers/installation",
            "/orgs/monalisa/installation",
            "/users/nobody/installation",
            "/app/installations/99",
        ):
            assert (await github.app("GET", path)).status_code == 404


async def test_lists_come_in_pages_with_links() -> None:
    accounts = tuple(Account(login=f"org-{n}") for n in range(5))
    async with simulated(Settings(accounts=accounts)) as github:
        first = await github.app("GET", "/app/installations?per_page=2")
        assert len(first.json()) == 2
        second = await github.app("GET", first.links["next"]["url"])
        assert second.json()[0]["account"]["login"] == "org-2"
        assert {"first", "prev", "next", "last"} == second.links.keys()
        last = await github.app("GET", second.links["last"]["url"])
        assert [i["account"]["login"] for i in last.json()] == ["org-4"]


async def test_a_token_may_be_narrowed_to_repositories_and_permissions(github: Client) -> None:
    github.sim.add_repository("octo-org", "second")
    path = f"/app/installations/{_installation(github)}/access_tokens"
    narrow = {"repositories": ["second"], "permissions": {"actions": "read"}}
    answer = await github.app("POST", path, json=narrow)
    body = answer.json()
    assert answer.status_code == 201
    assert [r["name"] for r in body["repositories"]] == ["second"]
    assert body["permissions"] == {"actions": "read"}
    token = body["token"]
    seen = await github.call("GET", "/installation/repositories", token=token)
    assert [r["name"] for r in seen.json()["repositories"]] == ["second"]
    assert (await github.call("GET", f"{REPOSITORY}/actions/runs", token=token)).status_code == 404


async def test_a_token_cannot_hold_more_than_its_installation(github: Client) -> None:
    path = f"/app/installations/{_installation(github)}/access_tokens"
    for asked in ({"repositories": ["unknown"]}, {"permissions": {"secrets": "write"}}):
        assert (await github.app("POST", path, json=asked)).status_code == 422
    assert (await github.app("POST", "/app/installations/5/access_tokens")).status_code == 404
    assert (await github.app("POST", path, content=b"{nonsense")).status_code == 400


async def test_a_suspended_installation_gives_no_token_and_its_tokens_open_nothing(
    github: Client,
) -> None:
    token = await github.token()
    number = _installation(github)
    github.sim.suspend(number)
    path = f"/app/installations/{number}/access_tokens"
    refused = await github.app("POST", path)
    assert refused.status_code == 403
    assert refused.json()["message"] == "This installation has been suspended"
    seen = await github.call("GET", "/installation/repositories", token=token)
    assert seen.status_code == 403
    assert (await github.app("GET", f"/app/installations/{number}")).json()["suspended_at"]
    github.sim.unsuspend(number)
    assert (await github.app("POST", path)).status_code == 201


async def test_an_installation_can_be_deleted(github: Client) -> None:
    number = _installation(github)
    assert (await github.app("DELETE", f"/app/installations/{number}")).status_code == 204
    assert (await github.app("DELETE", f"/app/installations/{number}")).status_code == 404


async def test_the_webhook_address_can_be_changed(github: Client, hook: Receiver) -> None:
    assert "url" not in (await github.app("GET", "/app/hook/config")).json()
    changed = await github.app("PATCH", "/app/hook/config", json={"url": hook.url})
    assert changed.json()["url"] == hook.url
    github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    assert await github.sim.wait_deliveries()
    assert hook.actions == ["queued"]


async def test_the_webhook_is_shown_as_it_is_set_up(github: Client) -> None:
    shown = (await github.app("GET", "/app/hook/config")).json()
    assert shown == {"content_type": "json", "insecure_ssl": "0", "secret": "********"}
    change = {"content_type": "form", "insecure_ssl": 1, "secret": ""}
    changed = (await github.app("PATCH", "/app/hook/config", json=change)).json()
    assert changed == {"content_type": "form", "insecure_ssl": "1"}


async def test_an_inactive_webhook_has_no_configuration_and_no_log(github: Client) -> None:
    await github.control("PATCH", "/app", json={"active": False})
    github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    for path in ("/app/hook/config", "/app/hook/deliveries"):
        assert (await github.app("GET", path)).status_code == 404
    await github.control("PATCH", "/app", json={"active": True})
    assert (await github.app("GET", "/app/hook/deliveries")).json() == []


async def test_a_form_carries_the_payload_and_is_signed_as_it_is(
    github: Client, hook: Receiver
) -> None:
    github.sim.set_webhook(hook.url)
    await github.control("PATCH", "/app", json={"content_type": "form"})
    github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    assert await github.sim.wait_deliveries()
    received = hook.seen[0]
    assert received.headers["content-type"] == "application/x-www-form-urlencoded"
    assert received.body.startswith(b"payload=%7B")
    signed = received.headers["x-hub-signature-256"]
    assert signed == signature(github.sim.settings.webhook_secret, received.body)


async def test_the_app_says_what_it_asks_for_and_hears_what_it_subscribes_to(
    github: Client,
) -> None:
    change = {"permissions": {"actions": "read"}, "events": ["push"]}
    await github.control("PATCH", "/app", json=change)
    app = (await github.app("GET", "/app")).json()
    assert (app["permissions"], app["events"]) == ({"actions": "read"}, ["push"])
    github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    assert (await github.app("GET", "/app/hook/deliveries")).json() == []
    assert github.sim.world.deliveries.pending == 0


async def test_the_delivery_log_is_paged_by_cursor_newest_first(github: Client) -> None:
    github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    for n in range(4):
        github.sim.dispatch("octo-org", "octo-repo", ONE_JOB, event=f"push-{n}")
    assert await github.sim.wait_deliveries()
    first = await github.app("GET", "/app/hook/deliveries?per_page=2")
    second = await github.app("GET", first.links["next"]["url"])
    third = await github.app("GET", second.links["next"]["url"])
    ids = [d["id"] for page in (first, second, third) for d in page.json()]
    assert ids == sorted(ids, reverse=True)
    assert len(set(ids)) == 5
    assert "next" not in third.links
    assert (await github.app("GET", "/app/hook/deliveries?cursor=x")).status_code == 400
    assert (await github.app("GET", "/app/hook/deliveries?status=x")).status_code == 422
    good = await github.app("GET", "/app/hook/deliveries?status=success")
    assert good.json() == []


async def test_a_delivery_shows_what_was_sent_and_can_be_sent_again(
    github: Client, hook: Receiver
) -> None:
    github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    assert await github.sim.wait_deliveries()
    item = (await github.app("GET", "/app/hook/deliveries")).json()[0]
    assert (item["status_code"], item["redelivery"]) == (502, False)
    whole = (await github.app("GET", f"/app/hook/deliveries/{item['id']}")).json()
    assert whole["request"]["payload"]["action"] == "queued"
    assert whole["request"]["headers"]["X-GitHub-Delivery"] == item["guid"]
    github.sim.set_webhook(hook.url)
    again = await github.app("POST", f"/app/hook/deliveries/{item['id']}/attempts")
    assert again.status_code == 202
    assert await github.sim.wait_deliveries()
    newest = (await github.app("GET", "/app/hook/deliveries")).json()[0]
    assert (newest["guid"], newest["redelivery"]) == (item["guid"], True)
    assert newest["status_code"] == 202
    for method, path in (("GET", ""), ("POST", "/attempts")):
        unknown = await github.app(method, f"/app/hook/deliveries/1{path}")
        assert unknown.status_code == 404
