"""What a transaction of the ledger did, allows, or finds due."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mayfly.model.demand import DemandGroup
from mayfly.model.executors import Executor
from mayfly.model.jobs import GroupId, WorkflowJob
from mayfly.model.runners import Claim, Registration


class Touch(NamedTuple):
    """What a change means for one pool: reasons to ring."""

    opened: int
    """Runners newly needed."""
    freed: int
    """Slots newly free."""
    used: int
    open: int


class Changes(NamedTuple):
    """What one transaction did."""

    jobs: Sequence[WorkflowJob] = ()
    claims: Sequence[Claim] = ()
    ended: Sequence[Claim] = ()
    """Those of the claims that were live before."""
    pools: Mapping[str, Touch] = {}
    stalled: Sequence[DemandGroup] = ()
    """Groups that have just stalled."""
    abandoned: Sequence[Registration] = ()
    """Names given up, because GitHub could not be asked about them for more than a day."""
    broken: Sequence[Executor] = ()
    """Machines that are out of service from now on, because they could not prepare."""


class Mint(NamedTuple):
    """Leave to mint one generation of a claim's runner; `older` names are to be deleted first."""

    claim: Claim
    group: DemandGroup
    name: str
    older: Sequence[Registration]


class Due(NamedTuple):
    """What the clock asks for now, each list bounded."""

    looks: Sequence[tuple[Registration, Claim, DemandGroup]]
    """Names to delete at GitHub: ended, silent, or registered and not needed."""
    silent: Sequence[Claim]
    surplus: Sequence[Claim]
    """Claimed, not registered, and not needed."""
    overdue: Sequence[tuple[Claim, DemandGroup]] = ()
    """Too long in one state: not prepared, not minted, unused, or busy with a job nobody knows."""
    checks: Sequence[WorkflowJob] = ()
    """Jobs GitHub is to be asked about."""


class Recount(NamedTuple):
    """One group counted again."""

    group: GroupId
    wrong: tuple[str, ...]
    """A sentence for each counter that was repaired; empty when all is well."""


class PoolUse(NamedTuple):
    """Totals of one pool."""

    used: int
    queued: int
    open: int
