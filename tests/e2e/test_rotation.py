"""Replacing the webhook's secret without losing a delivery."""

import pytest

from tests.e2e.deliveries import post, published, signature
from tests.e2e.stage import Stage

pytestmark = pytest.mark.timeout(60)
OLD, NEW = "the-old-webhook-secret", "the-new-webhook-secret"


async def test_both_secrets_work_until_the_old_one_is_removed(own_stage: Stage):
    body = published("ping")

    async def status(secret: str) -> int:
        proof = signature(body, secret).encode()
        return (await post(own_stage, body, "ping", proof)).status_code

    own_stage.secret("old", f"{OLD}\n")
    own_stage.secret("new", f"{NEW}\n")
    plane = await own_stage.plane(webhook_secrets=["old", "new"])
    assert [await status(OLD), await status(NEW)] == [202, 202]
    assert await plane.stopped() == 0
    await own_stage.plane(webhook_secrets=["new"])
    assert [await status(OLD), await status(NEW)] == [401, 202]
    own_stage.simulator.set_webhook(own_stage.simulator.world.deliveries.url, NEW)
    job = own_stage.dispatch("octo-repo")
    await own_stage.executor()
    await own_stage.ends(job)
