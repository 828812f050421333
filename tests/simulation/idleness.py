"""Idleness: since when a pool has had a free slot, and a machine no claim."""

from mayfly.model.runners import Claim
from tests.simulation.plans import PoolPlan
from tests.simulation.world import World


class Idleness:
    """Follows every transaction, because a slot that turns over looks free now and then."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._since = world.clock.seconds()
        self._most = {each.pool.name: each for each in world.plan.pools}
        self._full: dict[tuple[str, str | None], bool] = {}
        self._full_at: dict[tuple[str, str | None], float] = {}
        self._busy_at: dict[str, float] = {}
        world.audit.on_claim = self._moved

    def slot_seconds(self, each: PoolPlan, owner: str) -> float:
        """How long the owner could have had one more runner in the pool, all the time."""
        return min(self._free_seconds(each, None), self._free_seconds(each, owner))

    def machine_seconds(self, machine: str) -> float:
        """How long the machine has had no live claim."""
        claims = self._world.database.tables._claims.values()
        if any(claim.live and claim.machine == machine for claim in claims):
            return 0.0
        return self._world.clock.seconds() - self._busy_at.get(machine, self._since)

    def _free_seconds(self, each: PoolPlan, owner: str | None) -> float:
        if self._is_full(each, owner):
            return 0.0
        return self._world.clock.seconds() - self._full_at.get((each.pool.name, owner), self._since)

    def _is_full(self, each: PoolPlan, owner: str | None) -> bool:
        most = each.pool.max if owner is None else each.pool.max_per_owner or each.pool.max
        return self._world.database.tables._used.get((each.pool.name, owner), 0) >= most

    def _moved(self, old: Claim | None, new: Claim) -> None:
        now = self._world.clock.seconds()
        if new.live or (old is not None and old.live):
            self._busy_at[new.machine] = now
        for owner in (None, new.owner):
            key, full = (new.pool, owner), self._is_full(self._most[new.pool], owner)
            if full or self._full.get(key, True):
                self._full_at[key] = now
            self._full[key] = full
