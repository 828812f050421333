"""An operator's platform of their own, behind the URL that launcher orders are posted to.

It keeps what docs/reference/launcher-protocol.md asks of it. Signatures are checked by the
library of Standard Webhooks' own authors.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

from tests.servers.platforms import Endpoint, Reply, Request, serving

SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
PATH = "/mayfly"


class Hook:
    """Launches by id; `orders` is what it was told."""

    def __init__(self) -> None:
        self.endpoint = Endpoint(self._answer)
        self.orders: list[dict[str, Any]] = []
        self.begun: list[dict[str, str]] = []
        self.most: int | None = None
        self._launches: dict[str, dict[str, str]] = {}

    @property
    def url(self) -> str:
        return f"{self.endpoint.url}{PATH}"

    def becomes(self, launch: str, state: str, detail: str = "") -> None:
        """It says so from now on."""
        self._launches[launch] |= {"state": state, "detail": detail}

    def _answer(self, request: Request) -> Reply:
        try:
            Webhook(SECRET).verify(request.body, request.headers)
        except WebhookVerificationError:
            return _problem(401, "the signature is not right")
        order = json.loads(request.body)
        self.orders.append(order)
        match order["verb"]:
            case "start":
                return self._start(order)
            case "list":
                own = [one for one in self._launches.values() if one["pool"] == order["pool"]]
                return Reply(200, {"launches": own})
            case "stop":
                one = self._launches.get(order["launch"])
                if one and one["pool"] == order["pool"] and one["state"] == "running":
                    one["state"] = "ended"
                return Reply(204)
            case _:
                return _problem(400, f"there is no verb {order['verb']}")

    def _start(self, order: dict[str, str]) -> Reply:
        if order["launch"] in self._launches:
            return Reply(200)
        if self.most is not None and len(self._launches) >= self.most:
            return _problem(503, "all 2 boards are in use")
        self.begun.append(order)
        self._launches[order["launch"]] = {
            "id": order["launch"],
            "pool": order["pool"],
            "state": "running",
        }
        return Reply(202)


def _problem(status: int, detail: str) -> Reply:
    return Reply(
        status, {"title": "Refused", "detail": detail}, {"Content-Type": "application/problem+json"}
    )


@asynccontextmanager
async def running() -> AsyncIterator[Hook]:
    """It answers as long as the block lasts."""
    hook = Hook()
    async with serving(hook.endpoint):
        yield hook
