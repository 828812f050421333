"""The world: GitHub, people, machines and control planes of one plan, wired together."""

import asyncio
from collections import Counter
from itertools import count
from random import Random

from mayfly.bus.memory import MemoryBus
from mayfly.model.access import Admitted
from mayfly.model.jobs import WorkflowJob
from mayfly.telemetry import Telemetry
from tests.simulation.accounts import Accounts
from tests.simulation.api import GitHubWorld
from tests.simulation.audits import Audit
from tests.simulation.clocks import SimulatedClock
from tests.simulation.clouds import Cloud, CloudConnection, RingingConnection
from tests.simulation.deliveries import Deliveries
from tests.simulation.faults import Faults
from tests.simulation.jobs import Jobs
from tests.simulation.journal import Journal
from tests.simulation.machines import Machine
from tests.simulation.operators import Operators
from tests.simulation.planes import Planes, Surroundings
from tests.simulation.plans import Plan, PoolPlan
from tests.simulation.processes import Process
from tests.simulation.runners import Runners
from tests.simulation.stores import Database
from tests.simulation.verdicts import Verdicts


class World:
    """Built inside a running loop; `start` sets it going."""

    def __init__(self, plan: Plan, journal: Journal) -> None:
        self.plan = plan
        self.journal = journal
        self.clock = SimulatedClock(count(1))
        self.faults = Faults(plan.seed, plan.faults, journal)
        self.accounts = Accounts(plan, Random(f"{plan.seed}:accounts"))
        self.jobs = Jobs(self.clock, journal, same_ids=plan.same_ids)
        self.runners = Runners(self.jobs, self.faults, journal, Random(f"{plan.seed}:assignment"))
        self.deliveries = Deliveries(self.jobs, self.clock, self.faults)
        self.github = GitHubWorld(
            self.accounts,
            self.jobs,
            self.runners,
            self.deliveries,
            self.clock,
            self.faults,
            Counter(),
        )
        self.verdicts = Verdicts(self.accounts, journal)
        self.database = Database()
        self.around = Surroundings(
            pools=tuple(each.pool for each in plan.pools),
            database=self.database,
            bus=MemoryBus(self.clock),
            github=self.github,
            journal=journal,
            telemetry=Telemetry(each.pool.name for each in plan.pools),
            pull=plan.pull,
        )
        self.planes = Planes(plan.skews, self.around)
        self.deliveries.receive = self.planes.receive
        self.cloud = Cloud(self.planes, self.github, self.verdicts, journal)
        connection = RingingConnection if plan.ringing else CloudConnection
        self.around.connect = lambda pool, process: connection(
            self.cloud, pool, process, self.github
        )
        self.machines = [machine for each in plan.pools for machine in self._machines_of(each)]
        self.operators = Operators(plan, self.github, self.planes, journal)
        self.audit = Audit(
            self.database.tables,
            self.around.pools,
            self._may_be_admitted,
            journal,
            self.complain,
        )
        self.runners.on_registered = self._check_registered
        self.runners.on_connected = self._check_online
        self._hosts = Process(self.planes.stumbled)
        self._count_what_lasts()

    async def start(self) -> None:
        """Control planes and machines; what people do begins with `operators.start`."""
        for rule in self.accounts.rules():
            await self.database.access.grant(rule)
        self.planes.start()
        for machine in self.machines:
            self._hosts.spawn(machine.live())

    def end_faults(self) -> None:
        """From now on all goes as it should; what is under way is put right."""
        self.faults.end()
        self.runners.resume()
        for owner in self.accounts.owners:
            owner.let_back()
        self.journal.say("faults.ended")

    def stop(self) -> None:
        """Nothing has any effect from now on."""
        self.planes.kill()
        for machine in self.machines:
            machine.process.kill()
        for instance in self.cloud.living:
            instance.process.kill()

    def complain(self, sentence: str) -> None:
        """What must never happen has happened."""
        self.journal.say("VIOLATION", sentence)
        self.around.troubles.append(f"{asyncio.get_running_loop().time():.2f} s: {sentence}")

    def good_machines(self, pool: str) -> list[Machine]:
        """Those that can still serve a job."""
        return [m for m in self.machines if m.pool == pool and not m.broken and not m.gone]

    def _machines_of(self, each: PoolPlan) -> list[Machine]:
        """The first one lasts and serves every variant, so that each job can be served."""
        return [
            Machine(
                f"{each.pool.name}-{number}",
                each.pool.name,
                planes=self.planes,
                github=self.github,
                verdicts=self.verdicts,
                journal=self.journal,
                prepare_seconds=each.prepare_seconds,
                broken=0 < number <= each.black_holes + each.dead,
                dead=0 < number <= each.dead,
                lasting=number == 0,
                variants=each.pool.variants[:1] if number % 3 == 2 else (),
            )
            for number in range(each.machines)
        ]

    def _count_what_lasts(self) -> None:
        """Faults that are there from the beginning."""
        broken = sum(machine.broken for machine in self.machines)
        self.faults.struck["machine swallows every claim"] += broken
        self.faults.struck["two control planes, 260 s apart"] += len(self.plan.skews) > 1
        self.faults.struck["no delivery arrives, log only"] += self.plan.pull

    def _may_be_admitted(self, row: WorkflowJob, decision: Admitted) -> bool:
        job = self.jobs.by_id.get(row.key.id)
        if job is None or job.work.pool != decision.pool:
            return False
        return self.verdicts.ever_admitted(job)

    def _check_registered(self, name: str) -> None:
        if name not in self.database.tables._registrations:
            self.complain(f"runner {name} appeared at GitHub, and nobody watches over it")

    def _check_online(self, labels: frozenset[str]) -> None:
        """No more runners of a pool at once than it may have."""
        for pool in (each.pool for each in self.plan.pools if each.pool.name in labels):
            online = sum(r.online and pool.name in r.labels for r in self.runners.all())
            claims = self.database.tables._claims.values()
            spared = sum(claim.written_off and claim.pool == pool.name for claim in claims)
            if online > pool.max + spared:
                self.complain(f"pool {pool.name}: {online} runners online, {pool.max} allowed")
