"""What may go wrong on purpose: with API calls, and with deliveries."""

from __future__ import annotations

import random
from fnmatch import fnmatchcase
from typing import Literal, TypeVar

from msgspec import Struct
from msgspec.structs import replace


class ApiRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault of the calls to some endpoints."""

    path: str = "*"
    """A glob over the path, such as `*/generate-jitconfig`."""
    method: str = "*"
    when: Literal["before", "after"] = "before"
    """`before`: nothing happens at GitHub; `after`: it happens and the reply is lost."""
    status: int | None = 502
    """None closes the connection without an answer."""
    message: str | None = None
    retry_after: int | None = None
    limit: Literal["primary", "secondary"] | None = None
    """Answer as a spent rate limit does; overrides status and message."""
    latency_ms: int = 0
    only_latency: bool = False
    """Slow, and then answered as usual."""
    probability: float = 1.0
    count: int | None = None
    """How many calls it still strikes; None: all."""


class HookRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault of deliveries."""

    fault: Literal["lost", "unlogged", "doubled", "delayed", "reordered"]
    """`lost` stands in the delivery log as timed out, `unlogged` nowhere; `reordered` overtakes."""
    event: str = "*"
    action: str = "*"
    delay_ms: int = 200
    probability: float = 1.0
    count: int | None = None


class DownloadRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault of downloads of the runner's archive."""

    fault: Literal["interrupted", "corrupted", "wrong_checksum", "slow"]
    """`wrong_checksum` is announced by the API; the others befall the bytes."""
    after_bytes: int = 20_000
    """`interrupted`: so many come; `corrupted`: the one after them is another."""
    bytes_per_second: int = 100_000
    """`slow` only."""
    probability: float = 1.0
    count: int | None = None
    """How many downloads it still strikes; None: all."""


class Faults(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that goes wrong at present."""

    seed: int = 0
    latency_ms: int = 0
    error_rate: float = 0.0
    error_status: int = 500
    error_retry_after: int | None = None
    api: tuple[ApiRule, ...] = ()
    webhooks: tuple[HookRule, ...] = ()
    downloads: tuple[DownloadRule, ...] = ()
    withheld_definitions: tuple[str, ...] = ()
    """GUIDs of the runner service that no runner is told of."""


class Mischief:
    """Decides, by rule and by seeded chance, what strikes next."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._random = random.Random(faults.seed)  # noqa: S311 - repeatable on purpose

    def for_call(self, method: str, path: str) -> ApiRule | None:
        """The fault of one API call; a rule with a count is used up by it."""
        for index, rule in enumerate(self.faults.api):
            named = fnmatchcase(path, rule.path) and fnmatchcase(method, rule.method)
            if named and self._strikes(rule):
                self.faults = replace(self.faults, api=_spent(self.faults.api, index))
                return rule
        if self._random.random() < self.faults.error_rate:
            return ApiRule(
                status=self.faults.error_status, retry_after=self.faults.error_retry_after
            )
        return None

    def for_delivery(self, event: str, action: str | None) -> HookRule | None:
        """The fault of one delivery."""
        for index, rule in enumerate(self.faults.webhooks):
            named = fnmatchcase(event, rule.event) and fnmatchcase(action or "", rule.action)
            if named and self._strikes(rule):
                self.faults = replace(self.faults, webhooks=_spent(self.faults.webhooks, index))
                return rule
        return None

    def for_download(self, *kinds: str) -> DownloadRule | None:
        """The fault of one download, or of what is announced of it."""
        for index, rule in enumerate(self.faults.downloads):
            if rule.fault in kinds and self._strikes(rule):
                self.faults = replace(self.faults, downloads=_spent(self.faults.downloads, index))
                return rule
        return None

    def _strikes(self, rule: ApiRule | HookRule | DownloadRule) -> bool:
        return rule.count != 0 and self._random.random() < rule.probability


RuleT = TypeVar("RuleT", ApiRule, HookRule, DownloadRule)


def _spent(rules: tuple[RuleT, ...], index: int) -> tuple[RuleT, ...]:
    rule = rules[index]
    if rule.count is None:
        return rules
    changed = list(rules)
    changed[index] = replace(rule, count=rule.count - 1)
    return tuple(changed)
