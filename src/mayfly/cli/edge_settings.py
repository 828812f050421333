"""reflector.toml and the environment: what an edge reflector runs with, and no key of the App."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import msgspec

from mayfly.cli.environment import ENVIRONMENT, decoded
from mayfly.cli.settings import (
    Access,
    AccessRulesTable,
    BusTable,
    Labels,
    Log,
    Server,
    access_key_of,
    check_shared,
    rule_of,
    url_of,
    webhook_secrets_of,
)
from mayfly.github.secrets import Secret
from mayfly.model.access import AccessRule
from mayfly.model.errors import InvalidSettings
from mayfly.model.pools import Pool, checked
from mayfly.web.tokens import Token
from mayfly.web.tokens import checked as checked_tokens


class RefusedJobs(StrEnum):
    """What becomes of events whose job is refused at the edge."""

    FORWARD = "forward"
    """They are put on the bus all the same, so that `mayfly jobs explain` can answer."""
    DROP = "drop"
    """They go no further than this log, so that strangers reach nothing behind it."""


class EdgeFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """reflector.toml."""

    pools: tuple[Pool, ...]
    bus: BusTable
    webhook_secret_files: tuple[Path, ...] = ()
    """One, or two while one replaces the other; or MAYFLY_WEBHOOK_SECRET and …_OLD."""
    refused_jobs: RefusedJobs = RefusedJobs.FORWARD
    """`drop` for an App that anyone may install."""
    server: Server = Server()
    labels: Labels = Labels()
    access: tuple[Access, ...] = ()
    access_rules: AccessRulesTable = AccessRulesTable()
    tokens: tuple[Token, ...] = ()
    log: Log = Log()
    runner_prefix: str = "mayfly"
    """As in mayfly.toml: events about runners of ours go on, whatever the rules say."""


class EdgeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The file, checked, and its secrets."""

    file: EdgeFile
    pools: tuple[Pool, ...]
    rules: tuple[AccessRule, ...]
    webhook_secrets: tuple[Secret, ...]
    bus_url: Secret
    access_key: Secret | None


def load(path: Path, environment: Mapping[str, str] = ENVIRONMENT) -> EdgeSettings:
    """The settings of `path`; InvalidSettings says which word of which file is wrong."""
    hint = "docs/how-to/reflect-from-the-edge.md has one to start from"
    file = decoded(path, EdgeFile, hint)
    pools = checked(file.pools, file.labels.convention)
    if not pools:
        raise InvalidSettings(f'{path}: there is no pool; add [[pools]] with name = "…"')
    checked_tokens(file.tokens)
    check_shared(file.bus, pools, path)
    bus_url = url_of(file.bus, "bus", environment)
    if bus_url is None:
        raise InvalidSettings(
            f"{path}: [bus] names no url; add url or url_file, or set MAYFLY_BUS_URL"
        )
    return EdgeSettings(
        file=file,
        pools=pools,
        rules=tuple(rule_of(access, pools, path) for access in file.access),
        webhook_secrets=webhook_secrets_of(file.webhook_secret_files, environment, needed=True),
        bus_url=Secret(bus_url),
        access_key=access_key_of(file.access_rules, path, environment),
    )
