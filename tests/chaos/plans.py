"""A plan: the jobs of a run, what goes wrong at GitHub, and how patient Mayfly is."""

import random
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from mayfly.model.deadlines import Deadlines
from mayfly.simulator import Account, ApiRule, Faults, HookRule

EXECUTORS = 6
SHORTENED = 20
"""All deadlines are so many times shorter than the defaults, so their proportions are the same."""
REPOSITORIES = {
    "octo-org": ("octo-repo", "mercury", "venus", "earth"),
    "mona": ("tools",),
    # Each is a demand group with few jobs: no runner made for another job serves one by chance.
    "hubot": tuple(f"part-{number}" for number in range(25)),
}
ACCOUNTS = (
    Account(login="octo-org", type="Organization", repositories=REPOSITORIES["octo-org"]),
    Account(login="mona", type="User", repositories=REPOSITORIES["mona"]),
    Account(login="hubot", type="User", repositories=REPOSITORIES["hubot"]),
)
POOLS = f"""
[[pools]]
name = "linux"
max = {EXECUTORS}

[[access]]
owner = "octo-org"
pool = "linux"

[[access]]
owner = "mona"
repository = "tools"
pool = "linux"

[[access]]
owner = "hubot"
pool = "linux"
"""
_BURST = 50
_BETWEEN_BURSTS = 12.0
_DURATIONS = (0.1, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0)
_STRAYS = ("setsid sleep 900 </dev/null >/dev/null 2>&1 & ", "", "")
"""Some jobs leave a process behind, in a session of its own."""
_PLENTY = 1_000_000
_KEPT = {"retention_seconds", "abandon_seconds"}
"""Days, of which a run sees nothing."""


class Queued(NamedTuple):
    """A job to be queued, `at` seconds after the first."""

    at: float
    owner: str
    repository: str
    work: str
    """What it runs."""


def jobs(random_: random.Random, number: int) -> Iterator[Queued]:
    """In bursts, over all repositories."""
    places = [(owner, name) for owner, names in REPOSITORIES.items() for name in names]
    for each in range(number):
        owner, repository = random_.choice(places)
        stray = random_.choice(_STRAYS)
        at = each // _BURST * _BETWEEN_BURSTS
        yield Queued(at, owner, repository, f"{stray}sleep {random_.choice(_DURATIONS)}")


def deadlines() -> dict[str, float]:
    """The defaults, shortened."""
    defaults: dict[str, float] = msgspec.structs.asdict(Deadlines())
    return {name: seconds / SHORTENED for name, seconds in defaults.items() if name not in _KEPT}


def faults(seed: int) -> Faults:
    """Everything that can go wrong at GitHub, at once.

    A `queued` that is neither delivered nor logged is left out: the sweep finds it, but it waits
    for 15 minutes on purpose, and no deadline shortens that.
    """
    return Faults(
        seed=seed,
        api=(
            ApiRule(only_latency=True, latency_ms=400, probability=0.10, count=_PLENTY),
            ApiRule(status=502, probability=0.04, count=_PLENTY),
            ApiRule(status=None, probability=0.02, count=_PLENTY),
            ApiRule(status=None, when="after", probability=0.04, count=_PLENTY),
        ),
        webhooks=(
            HookRule(fault="lost", probability=0.06, count=_PLENTY),
            HookRule(fault="unlogged", action="in_progress", probability=0.06, count=_PLENTY),
            HookRule(fault="unlogged", action="completed", probability=0.06, count=_PLENTY),
            HookRule(fault="doubled", probability=0.08, count=_PLENTY),
            HookRule(fault="delayed", delay_ms=700, probability=0.08, count=_PLENTY),
            HookRule(fault="reordered", delay_ms=1500, probability=0.08, count=_PLENTY),
        ),
    )


def struck(left: Faults) -> dict[str, int]:
    """How often each kind of fault has struck, by what is left of its rule's count."""
    found: dict[str, int] = {}
    for rule in left.api:
        found[_kind(rule)] = _PLENTY - (rule.count or 0)
    for hook in left.webhooks:
        name = f"delivery {hook.fault}"
        found[name] = found.get(name, 0) + _PLENTY - (hook.count or 0)
    return found


def _kind(rule: ApiRule) -> str:
    if rule.only_latency:
        return "call slow"
    if rule.when == "after":
        return "call done, reply lost"
    return "call refused with 502" if rule.status else "call cut off"
