"""Groups that have stalled, by GitHub's fault or by that of machines."""

from mayfly.model.protocol import Outcome
from mayfly.ports import Ledger
from tests.fakes.factories import claimed, minting_claim, queued_job

TIMES = 5
"""Failures in a row after which a group is stalled."""
SUSPENDED = "could not mint a runner: the installation is suspended; unsuspend it at GitHub"


async def stalled_by_github(ledger: Ledger, *, times: int = TIMES, first: int = 1) -> None:
    """Jobs from `first` on wait for runners that GitHub refuses to make."""
    await ledger.record([queued_job(number) for number in range(first, first + times)])
    mints = [await minting_claim(ledger, f"board-{number}") for number in range(1, times + 1)]
    for mint in mints:
        await ledger.refused(mint.claim.id, SUSPENDED)
        await ledger.finish(mint.claim.id, mint.claim.boot, Outcome.FAILED, SUSPENDED)


async def stalled_by_machines(ledger: Ledger, *, times: int = TIMES) -> None:
    """Jobs 1, 2, … wait for runners that machines board-1, board-2, … fail to start."""
    await ledger.record([queued_job(number) for number in range(1, times + 1)])
    claims = [await claimed(ledger, f"board-{number}") for number in range(1, times + 1)]
    for claim in claims:
        await ledger.finish(claim.id, claim.boot, Outcome.FAILED, "no space left on device")
