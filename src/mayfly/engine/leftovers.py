"""Leftovers: whose a runner at GitHub is, and whether it was left behind."""

from enum import StrEnum
from typing import NamedTuple

from mayfly.model.access import Scope
from mayfly.ports import GitHub, GitHubRunner, Ledger


class Whose(StrEnum):
    """Whose a runner is."""

    OURS = "ours"
    """Of a live claim."""
    WORKLIST = "worklist"
    """Of an ended claim; the reconciler is proving it gone."""
    LEAKED = "leaked"
    """Named like ours, and nobody watches over it."""
    FOREIGN = "foreign"
    """Not of this Mayfly."""


class Found(NamedTuple):
    """A runner at GitHub and whose it is."""

    scope: Scope
    runner: GitHubRunner
    whose: Whose


async def runners_at_github(github: GitHub, ledger: Ledger, prefix: str) -> list[Found]:
    """Every self-hosted runner of every installation; a call for each page of each repository."""
    watched = {registration.name for registration in await ledger.unproven()}
    found = []
    async for _, scope, runner in github.runners():
        claim = await ledger.named(runner.name)
        if not runner.name.startswith(f"{prefix}-"):
            whose = Whose.FOREIGN
        elif claim is not None and claim.live:
            whose = Whose.OURS
        else:
            whose = Whose.WORKLIST if runner.name in watched else Whose.LEAKED
        found.append(Found(scope, runner, whose))
    return found
