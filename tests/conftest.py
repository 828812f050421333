"""A run of tests begins with the longest, and ends with what the contract suites met."""

import pytest

from tests.fakes.escapes import table as escapes
from tests.suites import outcome, table

LONG = (
    "tests/e2e/test_image.py",
    "tests/e2e/test_server_outages.py",
    "tests/contract/test_ledger_concurrency.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes begins first, so that no worker still has it when the others are done."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Printed where the reports come together, also when workers ran the tests."""
    told = [("error", "failed"), *((word, word) for word in ("passed", "failed", "skipped"))]
    stats = terminalreporter.stats
    ended = [
        (report.nodeid, outcome(word, report.longrepr))
        for key, word in told
        for report in stats.get(key, ())
    ]
    if lines := list(table(ended)):
        terminalreporter.section("contract suites by backend")
        for line in lines:
            terminalreporter.write_line(line)
    told_by = [
        dict(report.user_properties)
        for word in ("passed", "failed")
        for report in stats.get(word, ())
    ]
    if attacks := {each["attacked"]: each["succeeded"] for each in told_by if "attacked" in each}:
        terminalreporter.section("what a hostile job can do, by driver")
        for line in escapes(attacks):
            terminalreporter.write_line(line)
    # A test with parts is told of once for each of them.
    if sizes := {each["image"] for each in told_by if "image" in each}:
        terminalreporter.section("image of an executor")
        terminalreporter.write_line(" ".join(sizes))
