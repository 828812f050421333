"""http-api.md has every route and every type of problem, and no other."""

import re

import pytest

from mayfly.web import (
    access_api,
    bus_api,
    executor_api,
    executors_api,
    launches_api,
    operator_api,
    probes,
    problems,
    reflector,
    tickets_api,
)
from tests.docs.pages import ROOT, reference, rows, sections

OPERATORS = (operator_api, access_api, bus_api, executors_api, launches_api)
SECTIONS = sections(reference("http-api.md"))


def _open(_connection, _handler):
    """A guard that lets everybody through."""


def _routes(*routers) -> set[str]:
    return {
        f"{method} {re.sub(r':[a-z]+}', '}', route.path)}"
        for router in routers
        for route in router.routes
        for method in route.methods
        if method != "OPTIONS"
    }


@pytest.mark.parametrize(
    ("heading", "routes"),
    [
        ("GitHub", {f"POST {reflector.PATH}"}),
        ("Executors", _routes(executor_api.routes(_open), tickets_api.routes())),
        ("Operators", _routes(*(api.routes(_open) for api in OPERATORS))),
        ("Machines", _routes(probes.routes(_open)) | {"GET /healthz", "HEAD /healthz"}),
    ],
)
def test_a_section_has_every_route_and_no_other(heading, routes):
    assert {row[0].strip("`") for row in rows(SECTIONS[heading])} == routes


def test_every_type_of_problem_is_documented_with_its_status():
    kinds = [kind for _, kind in problems._OURS]
    kinds += [*problems._HTTP.values(), problems._FAILED]
    documented = {(row[0].strip("`"), row[1]) for row in rows(SECTIONS["Problems"])}
    assert documented == {(kind.slug, str(kind.status)) for kind in kinds}


def test_the_prefix_of_a_type_is_the_documented_one():
    problem = problems.of_status(404, "nothing")
    assert problem.type == "urn:mayfly:problem:not-found"
    assert "`urn:mayfly:problem:`" in SECTIONS["Problems"]


def test_every_module_with_routes_is_looked_at():
    looked_at = {*OPERATORS, executor_api, probes, tickets_api}
    names = {module.__name__.rpartition(".")[2] for module in looked_at}
    found = (ROOT / "src" / "mayfly" / "web").glob("*.py")
    assert {path.stem for path in found if "def routes(" in path.read_text()} == names
