"""Operators: who changes access rules, and owners who suspend or remove the App."""

import asyncio
from random import Random

from mayfly.model.access import AccessRule
from tests.simulation.accounts import Access
from tests.simulation.api import GitHubWorld
from tests.simulation.journal import Journal
from tests.simulation.planes import Plane, Planes
from tests.simulation.plans import Plan
from tests.simulation.processes import Process
from tests.simulation.users import Users


class Operators:
    """Everybody who is not a machine; all they do is decided by the seed."""

    def __init__(self, plan: Plan, github: GitHubWorld, planes: Planes, journal: Journal) -> None:
        self._plan = plan
        self._github = github
        self._planes = planes
        self._journal = journal
        self._dice = Random(f"{plan.seed}:operators")
        self._people = Process(planes.stumbled)
        self._users = Users(plan, github, self._people)

    def start(self) -> None:
        """What the plan has of them."""
        self._people.spawn(self._users.push_all())
        for fault, work in (
            ("rule revoked", self._change_rules),
            ("installation suspended", self._suspend),
            ("github assigned nothing for a while", self._assign_nothing),
        ):
            if self._github.faults.planned(fault):
                self._people.spawn(work())
        if self._plan.removed:
            self._people.spawn(self._remove())

    async def change_rule(self, rule: AccessRule, *, grant: bool) -> None:
        """Through whichever control plane is up; tried again until it worked."""
        changed = await self._changed(rule, grant=grant)
        while not changed:
            await asyncio.sleep(5.0)
            changed = await self._changed(rule, grant=grant)
        accounts = self._github.accounts
        (accounts.allow if grant else accounts.disallow)(rule)
        self._journal.say("rule.granted" if grant else "rule.revoked", rule)

    async def _changed(self, rule: AccessRule, *, grant: bool) -> bool:
        plane = self._planes.reached()
        if plane is None:
            return False
        asked = plane.serve(lambda plane: _change(plane, rule, grant=grant))
        await asyncio.wait([asked])
        return not asked.cancelled() and asked.exception() is None

    async def _change_rules(self) -> None:
        """A rule is taken away and given back."""
        while not self._github.faults.over:
            await asyncio.sleep(self._dice.uniform(300.0, 1200.0))
            rule = self._dice.choice(self._github.accounts.rules())
            if self._github.faults.strikes("rule revoked", rule):
                await self.change_rule(rule, grant=False)
                await asyncio.sleep(self._dice.uniform(10.0, 400.0))
                await self.change_rule(rule, grant=True)

    async def _suspend(self) -> None:
        """An owner suspends the App and lets it back."""
        while not self._github.faults.over:
            await asyncio.sleep(self._dice.uniform(600.0, 1800.0))
            owner = self._dice.choice(self._github.accounts.owners)
            if owner.reachable and self._github.faults.strikes(
                "installation suspended", owner.name
            ):
                owner.keep_out(Access.SUSPENDED)
                await asyncio.sleep(self._dice.uniform(30.0, 900.0))
                owner.let_back()
                self._journal.say("installation.back", owner.name)
                self._github.deliveries.tell_back(owner)

    async def _assign_nothing(self) -> None:
        while not self._github.faults.over:
            await asyncio.sleep(self._dice.uniform(300.0, 3000.0))
            if self._github.faults.strikes("github assigned nothing for a while"):
                pause = self._dice.uniform(60.0, 2400.0)
                runners = self._github.runners
                runners.paused_until = asyncio.get_running_loop().time() + pause
                await asyncio.sleep(pause)
                runners.resume()

    async def _remove(self) -> None:
        await asyncio.sleep(self._dice.uniform(0.3, 0.9) * 60.0 * self._plan.minutes)
        owner = self._dice.choice(self._github.accounts.owners[1:])
        owner.keep_out(Access.REMOVED)
        self._github.faults.note("installation removed", owner.name)


async def _change(plane: Plane, rule: AccessRule, *, grant: bool) -> None:
    await (plane.access.grant if grant else plane.access.revoke)(rule)
    await plane.stages.intake.review()
