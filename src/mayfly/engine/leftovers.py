"""Leftovers: whose a runner at GitHub is, and whether it was left behind."""

import re
from enum import StrEnum
from typing import NamedTuple

from mayfly.model.access import Scope
from mayfly.model.runners import GitHubRunner
from mayfly.ports import GitHub, Ledger

_OURS = r"-[0-9a-z]{26}-\d+"
"""A claim's id and a generation; others may begin a name with our prefix too."""


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
    return [
        Found(scope, runner, await whose(ledger, runner, prefix))
        async for _, scope, runner in github.runners()
    ]


async def whose(ledger: Ledger, runner: GitHubRunner, prefix: str) -> Whose:
    """Whose a runner that GitHub has just shown is."""
    if not re.fullmatch(f"{re.escape(prefix)}{_OURS}", runner.name):
        return Whose.FOREIGN
    claim = await ledger.named(runner.name)
    if claim is None:
        return Whose.LEAKED
    if claim.live:
        return Whose.OURS
    watched = await ledger.watches(runner.name)
    return Whose.WORKLIST if watched else Whose.LEAKED
