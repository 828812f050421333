"""Labels: what a stranger may write in `runs-on`, and which pool it means."""

from collections.abc import Iterable

import msgspec

from mayfly.model.access import Reason, Refused
from mayfly.model.pools import Convention, Pool, VariantRule

SELF_HOSTED = "self-hosted"
LONGEST_LABEL = 256  # characters; GitHub's own limit for a runner label


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """The pool and variant a set of labels names."""

    pool: Pool
    variant: str | None


def normal(labels: Iterable[str]) -> tuple[str, ...]:
    """The label set as GitHub compares it: without case, order or repetition."""
    return tuple(sorted({label.lower() for label in labels}))


def fit(labels: tuple[str, ...], pools: Iterable[Pool], convention: Convention) -> Fit | Refused:
    """Which pool `labels` mean under `convention`, or the reason why none."""
    for label in labels:
        if flaw := flaw_of(label):
            return Refused(reason=Reason.INVALID_LABEL, sentence=f"label {label!r} {flaw}")
    if convention is Convention.SEQUENCE:
        return _by_sequence(labels, list(pools))
    return _by_match(labels, list(pools))


def flaw_of(label: str) -> str | None:
    """What is wrong with one label, or None; runners split labels at commas."""
    if not label:
        return "is empty"
    if len(label) > LONGEST_LABEL:
        return f"is longer than {LONGEST_LABEL} characters"
    if "," in label:
        return "contains a comma"
    if not label.isascii():
        return "contains a non-ASCII character"
    if not label.isprintable():
        return "contains a control character"
    return None


def _by_sequence(labels: tuple[str, ...], pools: list[Pool]) -> Fit | Refused:
    if not labels or labels[0].lower() != SELF_HOSTED:
        return Refused(
            reason=Reason.NOT_SELF_HOSTED,
            sentence=f"the first label must be {SELF_HOSTED!r}, as in "
            f"runs-on: [self-hosted, POOL]; this job has {list(labels)}",
        )
    if len(labels) == 1:
        return Refused(
            reason=Reason.NO_POOL_NAMED,
            sentence="the second label must name a pool, as in runs-on: [self-hosted, POOL]; "
            f"known pools: {_names(pools)}",
        )
    pool = next((pool for pool in pools if pool.name.lower() == labels[1].lower()), None)
    if pool is None:
        return Refused(
            reason=Reason.UNKNOWN_POOL,
            sentence=f"no pool is named {labels[1]!r}; known pools: {_names(pools)}",
        )
    if len(labels) > 3:
        return Refused(
            reason=Reason.TOO_MANY_LABELS,
            sentence=f"{len(labels)} labels, but the order is self-hosted, pool, variant; "
            f"remove {list(labels[3:])}",
        )
    return _with_variant(pool, labels[2] if len(labels) == 3 else None)


def _with_variant(pool: Pool, variant: str | None) -> Fit | Refused:
    if variant is None:
        if pool.variant is VariantRule.REQUIRED:
            return Refused(
                reason=Reason.VARIANT_MISSING,
                sentence=f"pool {pool.name!r} needs a variant as the third label"
                + (f": one of {', '.join(pool.variants)}" if pool.variants else ""),
            )
        return Fit(pool=pool, variant=None)
    if pool.variant is VariantRule.ABSENT:
        return Refused(
            reason=Reason.VARIANT_NOT_ALLOWED,
            sentence=f"pool {pool.name!r} takes no variant; remove the label {variant!r}",
        )
    wanted = variant.lower()
    if pool.variants and wanted not in {known.lower() for known in pool.variants}:
        return Refused(
            reason=Reason.VARIANT_NOT_ALLOWED,
            sentence=f"pool {pool.name!r} has no variant {variant!r}; "
            f"it has {', '.join(pool.variants)}",
        )
    return Fit(pool=pool, variant=wanted)


def _by_match(labels: tuple[str, ...], pools: list[Pool]) -> Fit | Refused:
    wanted = set(normal(labels))
    fitting = [pool for pool in pools if wanted <= {SELF_HOSTED, *normal(pool.labels)}]
    if not fitting or not wanted:
        return Refused(
            reason=Reason.UNKNOWN_POOL,
            sentence=f"no pool has all of the labels {list(labels)}; known pools: "
            + "; ".join(f"{pool.name} ({', '.join(pool.labels)})" for pool in pools),
        )
    owned = next((pool for pool in fitting if (pool.own or "").lower() in wanted), None)
    if owned is None:
        names = " or ".join(f"{pool.own!r} (pool {pool.name})" for pool in fitting)
        return Refused(
            reason=Reason.AMBIGUOUS,
            sentence=f"the labels {list(labels)} do not say which pool is meant; add {names}",
        )
    return Fit(pool=owned, variant=None)


def _names(pools: list[Pool]) -> str:
    return ", ".join(pool.name for pool in pools) or "none"
