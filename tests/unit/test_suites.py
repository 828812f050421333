"""The table of contract suites and the backends they met."""

from tests.suites import outcome, table

BUS = "tests/contract/test_bus.py::test_a_ring"
LEDGER = "tests/contract/test_ledger_claims.py::test_a_claim"


def test_every_suite_and_backend_has_a_line_with_its_counts():
    ended = [
        (f"{BUS}[memory]", "passed"),
        (f"{BUS}[memory-3]", "passed"),
        (f"{BUS}[rabbitmq-3]", "skipped"),
        (f"{BUS}[memory-4]", "not applicable"),
        (f"{LEDGER}[sqlite]", "failed"),
        ("tests/contract/test_access_rules.py::test_a_rule[cosmos]", "passed"),
    ]
    assert [line.split() for line in table(ended)] == [
        ["suite", "backend", "passed", "failed", "skipped", "not", "applicable"],
        ["access", "rules", "cosmos", "1", "0", "0", "0"],
        ["bus", "memory", "2", "0", "0", "1"],
        ["bus", "rabbitmq", "0", "0", "1", "0"],
        ["ledger", "sqlite", "0", "1", "0", "0"],
    ]


def test_a_test_that_passed_and_whose_fixture_failed_has_failed_once():
    for ended in ("failed", "passed"), ("passed", "failed"):
        _, line = table((f"{BUS}[memory]", outcome) for outcome in ended)
        assert line.split() == ["bus", "memory", "0", "1", "0", "0"]


def test_what_makes_no_sense_for_a_backend_is_told_from_what_was_left_out():
    assert (
        outcome("skipped", ("a.py", 1, "Skipped: not applicable: it has none")) == "not applicable"
    )
    assert outcome("skipped", ("a.py", 1, "Skipped: PostgreSQL is not installed")) == "skipped"
    assert outcome("failed", "not applicable") == "failed"


def test_other_tests_are_in_no_table():
    others = (f"{BUS}[memorable]", f"{LEDGER}[completed]", "tests/unit/test_bus.py::test_a[memory]")
    assert list(table((node, "passed") for node in others)) == []
