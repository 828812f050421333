"""Which contract suite met which backend, read from the ids of the tests that ran."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

SUITES = {"bus": "bus", "ledger": "ledger", "access_rules": "access rules", "drivers": "drivers"}
"""The beginning of a file's name to what its tests are about."""
BACKENDS = (
    *("memory", "sql", "sqlite", "postgres", "cosmos"),
    *("rabbitmq", "servicebus", "remote"),
    *("process", "sandbox", "container", "command"),
)
NOT_APPLICABLE = "not applicable"
"""How the reason of a test begins that makes no sense for its backend."""
OUTCOMES = ("passed", "failed", "skipped", NOT_APPLICABLE)

_TEST = re.compile(
    rf"tests/contract/test_({'|'.join(SUITES)})\w*\.py::\w+\[({'|'.join(BACKENDS)})[-\]]"
)


def outcome(word: str, told: object) -> str:
    """How a test ended, by pytest's word and what it has been told of it."""
    reason = told[2] if isinstance(told, tuple) else ""
    return (
        NOT_APPLICABLE if str(reason).removeprefix("Skipped: ").startswith(NOT_APPLICABLE) else word
    )


def table(ended: Iterable[tuple[str, str]]) -> Iterator[str]:
    """A line for each suite and backend, from the ids of tests and how they ended.

    A test that is told twice, as by its own failure and its fixture's, counts once: as failed.
    """
    worst: dict[str, str] = {}
    for node, outcome in ended:
        if worst.get(node) != "failed":
            worst[node] = outcome
    counts: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for node, outcome in worst.items():
        if match := _TEST.match(node):
            counts[SUITES[match[1]], match[2]][outcome] += 1
    if counts:
        yield f"{'suite':14}{'backend':12}" + "".join(
            f"{word:>{len(word) + 3}}" for word in OUTCOMES
        )
    for (suite, backend), count in sorted(counts.items()):
        yield f"{suite:14}{backend:12}" + "".join(
            f"{count[word]:{len(word) + 3}}" for word in OUTCOMES
        )
