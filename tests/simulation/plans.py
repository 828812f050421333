"""Plans: everything about one simulated world that its seed decides before it begins."""

from random import Random

import msgspec

from mayfly.model.pools import Pool, PoolScope, VariantRule

Rates = dict[str, float]

WORK: Rates = {
    "run cancelled": 0.04,
    "run repeated": 0.05,
    "run behind a gate": 0.08,
    "job with bare labels": 0.03,
    "job of a stranger": 0.04,
    "job for an unknown pool": 0.02,
}
"""What people do, faults or not: by run, or by job."""
FAULTS: Rates = {
    "delivery lost": 0.30,
    "delivery lost, never logged": 0.02,
    "delivery doubled": 0.30,
    "delivery delayed": 0.15,
    "call failed before its effect": 0.04,
    "call failed after its effect": 0.04,
    "call rate limited": 0.02,
    "mint took effect 40 s late": 0.01,
    "runner never takes a job": 0.005,
    "executor crashed before a step": 0.025,
    "executor crashed after a step": 0.025,
    "executor killed between steps": 0.02,
    "machine never returned": 0.03,
    "machine cut off": 0.03,
    "prepare slow": 0.03,
    "request lost": 0.03,
    "reply lost": 0.05,
    "doorbell lost": 0.20,
    "doorbell doubled": 0.20,
    "plane killed before a write": 0.0004,
    "plane killed after a write": 0.0004,
    "plane killed before a call": 0.002,
    "plane killed after a call": 0.002,
    "plane down for long": 0.05,
}
"""By delivery, call, step, message or start: how often each strikes when a plan has it."""
EVERYWHERE = (
    "delivery lost",
    "delivery doubled",
    "executor crashed before a step",
    "executor crashed after a step",
)
"""Faults of every world."""
OPTIONAL: Rates = {
    "plane killed at random": 0.5,
    "rule revoked": 0.4,
    "installation suspended": 0.3,
    "github assigned nothing for a while": 0.1,
}
"""Faults that strike a few times in a world, at times of their own: in so many worlds."""


class PoolPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One pool, its machines and what they are like."""

    pool: Pool
    machines: int
    black_holes: int = 0
    """Machines that get no runner to start, and only now and then that far."""
    dead: int = 0
    """Machines whose preparations always fail."""
    prepare_seconds: float = 5.0
    wide: bool = True
    """The owner as a whole may use it, not only some of its repositories."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One world: its pools, its work, and what goes wrong in it."""

    seed: int
    jobs: int
    minutes: float
    """How long work arrives and faults strike."""
    pools: tuple[PoolPlan, ...]
    work: Rates
    faults: Rates
    bursts: int = 3
    skews: tuple[float, ...] = (0.0,)
    """One control plane for each, its clock so many seconds off."""
    same_ids: bool = False
    """A re-run keeps the ids of its jobs."""
    pull: bool = False
    """No delivery arrives; the delivery log is the only intake."""
    removed: bool = False
    """An owner uninstalls the App halfway and does not come back."""
    ringing: bool = False
    """The cloud tells whoever listens what has ended."""
    calm_minutes: float = 90.0

    @property
    def largest(self) -> int:
        """Runners of all pools together, at most."""
        return sum(each.pool.max for each in self.pools)


def drawn(seed: int, *, jobs: int | None = None, calm: bool = False) -> Plan:
    """The plan of a seed; the work is the same with faults and without."""
    dice = Random(f"{seed}:plan")
    count = jobs or dice.randint(60, 200)
    pools = tuple(_pool(name, dice) for name in ("linux", "arm64", "gpu")[: dice.randint(1, 3)])
    plan = Plan(
        seed=seed,
        jobs=count,
        minutes=dice.uniform(30, 60),
        pools=pools,
        work=WORK,
        faults={},
        bursts=dice.randint(0, 6),
        same_ids=dice.random() < 0.4,
        pull=dice.random() < 0.1,
    )
    return plan if calm else _troubled(plan, Random(f"{seed}:faults"))


def _pool(name: str, dice: Random) -> PoolPlan:
    most = dice.choice((1, 2, 3, 4, 4, 6, 8, 12))
    machines = max(1, most + dice.choice((-1, 0, 0, 1, 2)))
    rule = dice.choice((VariantRule.ABSENT, VariantRule.ABSENT, *VariantRule))
    pool = Pool(
        name=name,
        max=most,
        max_per_owner=dice.choice((None, None, None, max(1, most - 1))),
        variant=rule,
        variants=() if rule is VariantRule.ABSENT else ("small", "large"),
        scope=dice.choice((PoolScope.REPOSITORY, PoolScope.ORGANIZATION)),
        guard=dice.random() < 0.75,
    )
    return PoolPlan(
        pool=pool,
        machines=machines,
        prepare_seconds=dice.choice((2.0, 5.0, 5.0, 20.0)),
        wide=dice.random() < 0.7,
    )


def _troubled(plan: Plan, dice: Random) -> Plan:
    """Loss, doubling and crashes always; the others not in every world, to hide nothing."""
    chosen = {
        name: rate for name, rate in FAULTS.items() if dice.random() < 0.85 or name in EVERYWHERE
    }
    chosen |= {name: 1.0 for name, share in OPTIONAL.items() if dice.random() < share}
    pools = tuple(
        msgspec.structs.replace(each, black_holes=int(each.machines > 3 and dice.random() < 0.25))
        for each in plan.pools
    )
    skews = (-130.0, 130.0) if dice.random() < 0.2 else (0.0,)
    return msgspec.structs.replace(
        plan, faults=chosen, pools=pools, skews=skews, removed=dice.random() < 0.1
    )
