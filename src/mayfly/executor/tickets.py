"""A launched executor proves itself: its ticket becomes a token, and is worthless afterwards."""

import logging
import secrets

from mayfly.calls import expected, open_calls, read
from mayfly.executor.logs import line
from mayfly.executor.patience import Timing, answered
from mayfly.executor.settings import Settings
from mayfly.executor.shutdown import Shutdown, unless
from mayfly.model.launches import Ticket
from mayfly.model.protocol import Redeemed, RedeemOrder

log = logging.getLogger(__name__)


async def redeemed(
    settings: Settings, ticket: Ticket, shutdown: Shutdown, timing: Timing
) -> Redeemed | None:
    """What the control plane gives for it, asked until it answers; None: told to end meanwhile.

    Unauthentic when it gives nothing; then nobody may know the ticket's text from us.
    """
    # Kept for every try: answers get lost.
    order = RedeemOrder(pool=settings.pool, nonce=secrets.token_urlsafe(32))
    async with open_calls(
        settings.server, ticket.reveal(), caller="executor", ca_file=settings.ca_file
    ) as calls:

        async def ask() -> Redeemed:
            return expected(read(await calls.post("/v1/tickets/redeem", order), Redeemed))

        found = await unless(shutdown.drain, answered(ask, "ticket", timing))
    if found is None:
        return None
    log.info(line("ticket.redeemed", pool=found.pool, machine=found.machine))
    return found
