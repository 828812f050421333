"""Admission: may this workflow job have a runner, and where is the runner registered?"""

from functools import lru_cache

from mayfly.model.access import AccessRule, Admitted, Decision, Reason, Refused, Scope
from mayfly.model.errors import Transient
from mayfly.model.jobs import WorkflowJobEvent
from mayfly.model.labels import Fit, fit
from mayfly.model.pools import Convention, Pool, PoolScope
from mayfly.ports import AccessRules


class Admission:
    """The pools' labels and the access rules, asked about one job."""

    def __init__(
        self, pools: tuple[Pool, ...], convention: Convention, access: AccessRules
    ) -> None:
        # Labels come from strangers, so what is remembered of them is bounded.
        self._fit = lru_cache(maxsize=1024)(lambda labels: fit(labels, pools, convention))
        self._access = access

    async def decide(self, event: WorkflowJobEvent) -> Decision:
        """The decision by the rules as they are now; the same for the same rules.

        Never Transient: where the rules cannot be read, the job is pending a check.
        """
        named = self._fit(event.labels)
        if isinstance(named, Refused):
            return named
        if event.installation is None:
            return Refused(
                reason=Reason.NO_INSTALLATION,
                sentence=f"the delivery names no installation of the GitHub App, so "
                f"{event.full_name} cannot get a runner; is the webhook the App's own?",
            )
        try:
            rule = await self._access.find(event.owner, event.repository, named.pool.name)
        except Transient:
            return unchecked(event, named.pool)
        return decided(event, named, rule)


def decided(event: WorkflowJobEvent, named: Fit, rule: AccessRule | None) -> Decision:
    """Admitted because of `rule`, or refused for want of one."""
    pool = named.pool
    if rule is None:
        return Refused(
            reason=Reason.NOT_ALLOWED,
            sentence=f"no access rule lets {event.full_name} use pool {pool.name!r}; an operator "
            f"can add one: mayfly access allow {event.full_name} {pool.name}",
        )
    return Admitted(
        pool=pool.name, variant=named.variant, scope=scope_of(event, pool, rule), rule=str(rule)
    )


def unchecked(event: WorkflowJobEvent, pool: Pool) -> Refused:
    """Pending a check; the sentence is the same however often the check fails."""
    return Refused(
        reason=Reason.PENDING_CHECK,
        sentence=f"the access rules cannot be read now, so nobody knows whether {event.full_name} "
        f"may use pool {pool.name!r}; the job is decided as soon as they can be read",
    )


def scope_of(event: WorkflowJobEvent, pool: Pool, rule: AccessRule) -> Scope:
    """Organization level only where the rule covers every repository there (R12)."""
    wide = pool.scope is PoolScope.ORGANIZATION and event.owner_is_organization
    if wide and rule.covers_owner:
        return Scope(f"orgs/{event.owner}")
    return Scope(f"repos/{event.full_name}")
