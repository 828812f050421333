"""Creating the App from a manifest."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlparse

from .support import ONE_JOB, Client, Receiver, app_token


async def test_a_manifest_becomes_an_app_with_keys_of_its_own(
    github: Client, hook: Receiver
) -> None:
    manifest = {
        "redirect_url": "http://127.0.0.1:1/done",
        "hook_attributes": {"url": hook.url},
    }
    sent = await github.http.post(
        "/settings/apps/new?state=abc",
        data={"manifest": json.dumps(manifest)},
    )
    assert sent.status_code == 302
    query = parse_qs(urlparse(sent.headers["location"]).query)
    assert query["state"] == ["abc"]
    conversion = f"/app-manifests/{query['code'][0]}/conversions"
    made = await github.http.post(conversion)
    assert made.status_code == 201
    secrets = made.json()
    token = app_token(issuer=secrets["client_id"], key=secrets["pem"])
    assert (await github.call("GET", "/app", token=token)).json()["id"] == secrets["id"]
    assert (await github.app("GET", "/app")).status_code == 401
    assert (await github.http.post(conversion)).status_code == 404
    github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    assert await github.sim.wait_deliveries()
    assert hook.actions == ["queued"]


async def test_a_wrong_manifest_is_refused(github: Client) -> None:
    sent = await github.http.post("/settings/apps/new", data={"manifest": "{}"})
    assert sent.status_code == 422
