"""Pools: named sets of interchangeable machines, as an operator declares them."""

from enum import StrEnum

import msgspec

from mayfly.model.errors import InvalidSettings

LARGEST_POOL = 100_000
"""Runners; GitHub itself allows 10,000 in a group."""


class Convention(StrEnum):
    """How labels name a pool."""

    SEQUENCE = "sequence"
    MATCH = "match"


class VariantRule(StrEnum):
    """Whether a job of the pool names a variant as its third label."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    ABSENT = "absent"


class PoolScope(StrEnum):
    """Where runners of the pool are registered."""

    REPOSITORY = "repository"
    ORGANIZATION = "organization"


class Pool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One pool of mayfly.toml (`[[pools]]`)."""

    name: str
    """The second label of a job in *sequence*; the label of access rules in both conventions."""
    max: int = 4
    """Most runners at once. 4 keeps a first try small; set it to what the machines carry."""
    max_per_owner: int | None = None
    """Most runners at once for one owner; unset: no bound, owners share fairly all the same."""
    variant: VariantRule = VariantRule.ABSENT
    """Whether jobs name a variant. Required is safer than optional: a runner made for a variant
    also fits a job that names none, and may be taken by it."""
    variants: tuple[str, ...] = ()
    """Allowed variants; empty: any."""
    labels: tuple[str, ...] = ()
    """*match* only: the labels of the pool's runners."""
    own: str | None = None
    """*match* only: the label no other pool has, which every job of this pool must name."""
    scope: PoolScope = PoolScope.REPOSITORY
    """Organization level is used only for owners with an AllowOwner rule."""
    guard: bool = True
    """Ask the control plane before a job's first step whether this job was admitted."""
    launcher: str | None = None
    """The name of the `[launchers.NAME]` that starts executors when there is work; unset: only
    parked executors serve the pool."""
    idle_buffer: int = 0
    """Executors that wait for the next job; 0: none runs while there is nothing to do."""
    overflow_after_seconds: float = 0.0
    """Work is left to parked executors for so long before others are started."""
    start_deadline_seconds: float = 300.0
    """From the start of an executor to its claim; then it is given up and replaced."""


def checked(pools: tuple[Pool, ...], convention: Convention) -> tuple[Pool, ...]:
    """The pools, each with its own label filled in; raises InvalidSettings with the sentence."""
    seen: set[str] = set()
    for pool in pools:
        _check_one(pool)
        if pool.name.lower() in seen:
            raise InvalidSettings(f"pool {pool.name!r} is declared twice in mayfly.toml")
        seen.add(pool.name.lower())
    if convention is Convention.SEQUENCE:
        return pools
    return tuple(_with_own(pool, pools) for pool in pools)


def warnings(pools: tuple[Pool, ...]) -> list[str]:
    """Sentences about settings that work but will surprise."""
    return [
        f"pool {pool.name!r}: variants are optional, so a runner made for a variant can be taken "
        'by a job that names none; prefer variant = "required"'
        for pool in pools
        if pool.variant is VariantRule.OPTIONAL
    ]


def _check_one(pool: Pool) -> None:
    where = f"pool {pool.name!r} in mayfly.toml"
    if not _is_label(pool.name):
        raise InvalidSettings(
            f"{where}: a pool's name is a label; use printable ASCII without commas"
        )
    if "/" in pool.name or pool.name.lower() == "self-hosted":
        raise InvalidSettings(f"{where}: the name must not contain '/' nor be 'self-hosted'")
    if bad := next((variant for variant in pool.variants if not _is_label(variant)), None):
        raise InvalidSettings(
            f"{where}: variant {bad!r} is a label; use printable ASCII without commas"
        )
    if "" in pool.variants:
        raise InvalidSettings(f"{where}: an empty variant cannot be named; remove it")
    if pool.max > LARGEST_POOL:
        raise InvalidSettings(f"{where}: max is {pool.max}; it must be at most {LARGEST_POOL}")
    if pool.max < 1:
        raise InvalidSettings(f"{where}: max is {pool.max}; it must be at least 1")
    if pool.max_per_owner is not None and pool.max_per_owner < 1:
        raise InvalidSettings(
            f"{where}: max_per_owner is {pool.max_per_owner}; it must be at least 1"
        )
    _check_elastic(pool, where)
    if pool.variants and pool.variant is VariantRule.ABSENT:
        raise InvalidSettings(
            f'{where}: variants are listed but variant = "absent"; '
            'set variant = "required" or "optional"'
        )


def _check_elastic(pool: Pool, where: str) -> None:
    if pool.launcher is None and (pool.idle_buffer or pool.overflow_after_seconds):
        raise InvalidSettings(
            f"{where}: idle_buffer and overflow_after_seconds need a launcher; name one of "
            "[launchers.NAME]"
        )
    if not 0 <= pool.idle_buffer <= pool.max:
        raise InvalidSettings(
            f"{where}: idle_buffer is {pool.idle_buffer}; it must be between 0 and max ({pool.max})"
        )
    if pool.overflow_after_seconds < 0:
        raise InvalidSettings(
            f"{where}: overflow_after_seconds is {pool.overflow_after_seconds}; it must not be "
            "negative"
        )
    if pool.start_deadline_seconds <= 0:
        raise InvalidSettings(
            f"{where}: start_deadline_seconds is {pool.start_deadline_seconds}; it must be more "
            "than 0"
        )


def _is_label(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and "," not in text


def _with_own(pool: Pool, pools: tuple[Pool, ...]) -> Pool:
    """R13: without an own label, small jobs take the runners of the jobs that need the pool."""
    where = f"pool {pool.name!r} in mayfly.toml"
    if not pool.labels:
        raise InvalidSettings(f'{where}: convention "match" needs labels = ["…"]')
    others = {label.lower() for other in pools if other is not pool for label in other.labels}
    private = [label for label in pool.labels if label.lower() not in others]
    if pool.own is None and len(private) == 1:
        return msgspec.structs.replace(pool, own=private[0])
    if pool.own is None:
        choice = f"one of {', '.join(private)}" if private else "add a label no other pool has"
        raise InvalidSettings(f'{where}: set own = "…" to a label only this pool has ({choice})')
    if pool.own.lower() not in {label.lower() for label in private}:
        raise InvalidSettings(
            f"{where}: own = {pool.own!r} must be one of its labels and of no other pool's"
        )
    return pool
