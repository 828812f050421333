"""Access rules as lines of JSON: what `mayfly access export` prints and `import` reads."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from mayfly.model.access import GITHUB_NAME, AccessRule, by_identity
from mayfly.model.errors import InvalidSettings

_Name = Annotated[str, msgspec.Meta(pattern=rf"\A{GITHUB_NAME.pattern}\Z")]
MOST_COMPLAINTS = 10
"""Bad lines that are named; the first few say what is wrong with the file."""


class RuleLine(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """One line, in the words of `[[access]]` in mayfly.toml."""

    owner: _Name
    repository: _Name | None = None
    pool: str


def written(rules: Iterable[AccessRule]) -> Iterator[str]:
    """A line for each rule."""
    for rule in rules:
        line = RuleLine(owner=rule.owner, repository=rule.repository, pool=rule.label)
        yield msgspec.json.encode(line).decode()


def text_of(path: Path) -> str:
    """What is in the file."""
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise InvalidSettings(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise InvalidSettings(f"{path} is not text; `mayfly access export` writes one") from None


def read(text: str, pools: Iterable[str], place: str) -> list[AccessRule]:
    """The rules, each once; InvalidSettings names the bad lines of `place`, and nothing is used."""
    known = {pool.lower(): pool for pool in pools}
    rules, bad = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            rules.append(_rule(line, known))
        except ValueError as error:
            bad.append(f"{place}:{number}: {error}")
    if bad:
        more = len(bad) - MOST_COMPLAINTS
        named = bad[:MOST_COMPLAINTS] + ([f"and {more} more"] if more > 0 else [])
        raise InvalidSettings("nothing was imported\n" + "\n".join(named))
    return list(by_identity(rules).values())


def _rule(line: str, pools: Mapping[str, str]) -> AccessRule:
    found = msgspec.json.decode(line, type=RuleLine)
    pool = pools.get(found.pool.lower())
    if pool is None:
        raise ValueError(f"no pool is named {found.pool!r}; known: {', '.join(pools.values())}")
    return AccessRule(label=pool, owner=found.owner, repository=found.repository)
