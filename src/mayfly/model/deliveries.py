"""The App's delivery log: what GitHub tried to deliver, and how far it was read."""

from datetime import datetime
from typing import NamedTuple

from mayfly.model.jobs import InstallationId

REVIVING = frozenset({"created", "unsuspend", "new_permissions_accepted", "added"})
"""Actions on an installation after which GitHub may do what it refused before."""


class Attempt(NamedTuple):
    """One try to deliver; a redelivery is another attempt of the same GUID.

    Source: https://docs.github.com/rest/apps/webhooks#list-deliveries-for-an-app-webhook
    """

    id: int
    guid: str
    delivered_at: datetime
    event: str
    action: str
    status_code: int
    """What the receiver answered; 0 when it did not."""
    installation: InstallationId | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the receiver took it."""
        return 200 <= self.status_code < 300


class LogPosition(NamedTuple):
    """The newest attempt up to which everything is in the ledger."""

    id: int
    at: datetime
