"""Where the service's resources are: runners know them by GUID only."""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from mayfly.simulator.account_shapes import Json

TENANT: Final = "/_tenant"
"""The pipelines service, and where a job of v1 reports."""
RUN: Final = "/_run"
"""The run service, and where a job of v2 reports."""
BROKER: Final = "/_broker"
"""Where runners of v2 wait for jobs."""

_AREA: Final = "distributedtask"
_PLAN: Final = "{scopeIdentifier}/{hubName}/{planId}"

DEFINITIONS: Final = {
    "a8c47e17-4d56-4a56-92bb-de7ea7dc65be": ("pools", "pools/{poolId}"),
    "e298ef32-5878-4cab-993c-043836571f42": ("agents", "agents/{poolId}/{agentId}"),
    "134e239e-2df3-4794-a6f6-24f1f19ec8dc": ("sessions", "sessions/{poolId}/{sessionId}"),
    "c3a054f6-7a8a-49c0-944e-3a8e5d7adfd7": ("messages", "messages/{poolId}/{messageId}"),
    "fc825784-c92a-4299-9221-998a02d1b54f": ("jobrequests", "jobrequests/{poolId}/{requestId}"),
    "25adab70-1379-4186-be8e-b643061ebe3a": ("jobmessages", "jobmessages/{messageId}"),
    "83597576-cc2c-453c-bea6-2882ae6a1653": ("timelines", f"timelines/{_PLAN}/{{timelineId}}"),
    "8893bc5b-35b2-4be7-83cb-99e683551db4": ("records", f"records/{_PLAN}/{{timelineId}}"),
    "858983e4-19bd-4c5e-864c-507b59b58b12": ("feed", f"feed/{_PLAN}/{{timelineId}}/{{recordId}}"),
    "46f5667d-263a-4684-91b1-dff7fdcf64e2": ("logs", f"logs/{_PLAN}/{{logId}}"),
    "557624af-b29e-4c20-8ab0-0399d2204f3f": ("events", f"events/{_PLAN}"),
    "7898f959-9cdf-4096-b29e-7f293031629e": (
        "attachments",
        f"attachments/{_PLAN}/{{timelineId}}/{{recordId}}/{{type}}/{{name}}",
    ),
    "8ffcd551-079c-493a-9c02-54346299d144": ("packages", "packages/{packageType}/{platform}"),
    "8cc1b02b-ae49-4516-b5ad-4f9b29967c30": ("updates", "updates/{poolId}/{agentId}"),
}
"""GUID → (resource, path); a placeholder without a value goes with the slash before it."""


def connection_data(withheld: Container[str]) -> Json:
    """What a runner asks first; definitions in `withheld` are left out, for want of which it may
    crash."""
    found = [_shape(guid, *place) for guid, place in DEFINITIONS.items() if guid not in withheld]
    return {
        "instanceId": "00000000-0000-4000-8000-000000000001",
        "locationServiceData": {"serviceOwner": _NOBODY, "serviceDefinitions": found},
    }


_NOBODY: Final = "00000000-0000-0000-0000-000000000000"


def _shape(guid: str, resource: str, path: str) -> Json:
    return {
        "serviceType": _AREA,
        "identifier": guid,
        "displayName": resource,
        "relativeToSetting": "fullyQualified",
        "relativePath": f"/_apis/{path}",
        "description": None,
        "serviceOwner": _NOBODY,
        "resourceVersion": 6,
        "minVersion": "1.0",
        "maxVersion": "12.0",
    }
