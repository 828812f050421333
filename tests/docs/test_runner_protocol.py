"""The page on the simulator's runner protocol names every resource and address there is."""

import re

import pytest

from mayfly.simulator.runner_service import (
    admin_routes,
    broker_routes,
    hand_routes,
    registration_routes,
    run_routes,
)
from mayfly.simulator.runner_service.definitions import DEFINITIONS
from tests.docs.pages import reference, rows

_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PAGE = reference("simulated-runner-protocol.md")
ADDRESSES = sorted(
    path
    for route in (
        registration_routes.trade,
        registration_routes.token,
        *admin_routes.ROUTES,
        *broker_routes.ROUTES,
        *hand_routes.ROUTES,
        *run_routes.ROUTES,
    )
    for path in route.paths
)


def test_every_resource_stands_there_with_its_guid():
    documented = {row[1]: row[0].strip("`") for row in rows(PAGE) if _GUID.fullmatch(row[1])}
    assert documented == {guid: resource for guid, (resource, _) in DEFINITIONS.items()}


@pytest.mark.parametrize("path", ADDRESSES)
def test_every_address_stands_there(path):
    assert path in PAGE
