"""Tickets: a launched executor proves itself once, and gets a token that lasts while it speaks."""

import re
import secrets

import structlog

from mayfly.engine.declined import Declined
from mayfly.engine.news import News
from mayfly.model.launches import LaunchId, LaunchRecord, Redemption, TicketRefused, hashed
from mayfly.model.protocol import Redeemed
from mayfly.ports import Launches
from mayfly.telemetry import Telemetry

TOKEN_PREFIX = "mfl_"  # noqa: S105 - the beginning of every launched executor's token, no secret
_TICKET = re.compile(r"mft_([0-9a-z]{1,64})_[\w-]{32,64}")

log = structlog.get_logger("mayfly")


class Tickets:
    """The ledger knows hashes; the secrets are between the executor and this answer."""

    def __init__(self, launches: Launches, news: News, telemetry: Telemetry) -> None:
        self._launches = launches
        self._news = news
        self._telemetry = telemetry

    async def redeem(self, ticket: str, pool: str, nonce: str) -> Redeemed | Declined:
        """A token for a ticket of this pool; `nonce` is the same when the executor asks again."""
        found = _TICKET.fullmatch(ticket)
        if found is None:
            return self._refused(None, TicketRefused("this is no ticket of a launch", None))
        launch = LaunchId(found.group(1))
        token = TOKEN_PREFIX + secrets.token_urlsafe(32)
        redemption = Redemption(
            launch=launch,
            pool=pool,
            ticket=hashed(ticket),
            nonce=hashed(nonce),
            token=hashed(token),
        )
        answer = await self._launches.redeem(redemption)
        if isinstance(answer, TicketRefused):
            return self._refused(launch, answer)
        self._news.publish("launch.arrived", pool=answer.pool, launch=answer.id)
        return Redeemed(token=token, machine=answer.machine, pool=answer.pool)

    async def bearer(self, token: str) -> LaunchRecord | None:
        """Whose token it is; None for one that is not, or not any more."""
        if not token.startswith(TOKEN_PREFIX):
            return None
        return await self._launches.bearer(hashed(token))

    def _refused(self, launch: LaunchId | None, refused: TicketRefused) -> Declined:
        self._telemetry.launches.ticket_refused()
        if refused.pool is None:
            # Anybody may come with anything; only what was once ours is news.
            log.warning("ticket.refused", launch=launch, reason=refused.sentence)
        else:
            self._news.publish(
                "ticket.misused", pool=refused.pool, launch=launch, reason=refused.sentence
            )
        return Declined(refused.sentence)
