"""No backend escapes its contract suite."""

from importlib.metadata import entry_points

from tests.fakes.backends import STORES
from tests.fakes.buses import BUSES

HARNESSES = {
    "memory": {"memory"},
    "rabbitmq": {"rabbitmq"},
    "remote": {"remote"},
    "servicebus": {"servicebus"},
    "sql": {"sqlite", "postgres"},
}
"""The names under which an entry point meets the suite."""


def test_every_bus_meets_the_suite():
    for point in entry_points(group="mayfly.buses"):
        assert HARNESSES[point.name] <= set(BUSES), f"{point.name} has no harness"


def test_every_store_meets_the_suite():
    points = {point.name for point in entry_points(group="mayfly.stores")}
    assert points == {backend.point for backend in STORES}
