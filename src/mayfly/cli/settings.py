"""mayfly.toml and the environment: loaded and validated once, secrets by file or environment."""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from mayfly.calls import checked_server
from mayfly.cli.environment import ENVIRONMENT, decoded, read_secret, variable
from mayfly.github.app import Settings as GitHubSettings
from mayfly.github.app import checked as checked_github
from mayfly.github.secrets import Secret
from mayfly.github.tokens import VaultKey, read_key, vault_key
from mayfly.model.access import AccessRule, parsed_subject
from mayfly.model.deadlines import Deadlines
from mayfly.model.errors import InvalidSettings
from mayfly.model.pools import Convention, Pool, checked
from mayfly.model.requests import EVENTS
from mayfly.web.tokens import Token
from mayfly.web.tokens import checked as checked_tokens

KEY_VARIABLE = "MAYFLY_GITHUB_PRIVATE_KEY"
COSMOS_KEY_VARIABLE = "MAYFLY_COSMOS_KEY"
RUNNER_PREFIX = re.compile(r"[A-Za-z0-9-]{1,30}")
"""GitHub allows 64 characters for a runner's name; a claim's id and generation need the rest."""
LARGEST_ROTATION = 2
SECRET_VARIABLES = ("MAYFLY_WEBHOOK_SECRET", "MAYFLY_WEBHOOK_SECRET_OLD")


class Server(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[server]`: where the control plane listens."""

    host: str = "127.0.0.1"
    """Loopback by default: put a TLS proxy in front before the world may reach it."""
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 8080
    url: str | None = None
    """What launched executors call the control plane; needed where a pool names a launcher."""


class Store(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[store]`: where the ledger is kept."""

    backend: str = "sql"
    url: str = "sqlite:///mayfly.sqlite"
    """Relative to the working directory."""
    url_file: Path | None = None
    """A file with the url, when it holds a password; or MAYFLY_STORE_URL."""


class BusTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[bus]`: where runner requests wait."""

    backend: str = "sql"
    url: str | None = None
    """Default: the store's."""
    url_file: Path | None = None
    """A file with the url, when it holds a password; or MAYFLY_BUS_URL."""


class IntakeKind(StrEnum):
    """How workflow jobs become known."""

    PUSH = "push"
    """GitHub posts webhooks; the delivery log makes up for those that failed."""
    PULL = "pull"
    """The delivery log is read every turn: no address of ours has to be public."""
    BUS = "bus"
    """An edge reflector takes the webhooks and puts what they say on the bus."""


class GitHubTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[github]`: which App, on which GitHub."""

    app_id: str | int
    """The App's id or client id."""
    api_url: str = "https://api.github.com"
    """`https://HOST/api/v3` for GitHub Enterprise Server."""
    private_key_file: Path | None = None
    """The App's .pem; or its text in MAYFLY_GITHUB_PRIVATE_KEY."""
    key_vault_key: str | None = None
    """The App's private key in Azure Key Vault instead, which signs with it."""
    webhook_secret_files: tuple[Path, ...] = ()
    """One, or two while one replaces the other; or MAYFLY_WEBHOOK_SECRET and …_OLD."""
    mints_per_minute: int = 180
    """Per installation; GitHub's own limit is 180."""
    intake: IntakeKind = IntakeKind.PUSH
    """`push`: webhooks. `pull`: the App's delivery log alone, so a job starts at most one turn
    (20 s) later, and nothing has to be reachable from GitHub. `bus`: what an edge reflector puts
    on the bus; the delivery log makes up for what never reached it."""


class Labels(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[labels]`: how labels name a pool."""

    convention: Convention = Convention.SEQUENCE


class Access(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[access]]`: a rule that cannot be changed at run time."""

    owner: str
    pool: str
    repository: str | None = None
    """Left out: every repository of the owner."""


class AccessRulesTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[access_rules]`: where the rules are kept that can be changed at run time."""

    backend: str | None = None
    """Default: the store."""
    url: str | None = None
    """The endpoint of the account."""
    database: str = "GitHubWebHookDB"
    key_file: Path | None = None
    """The account's key; or its text in MAYFLY_COSMOS_KEY. Neither: the managed identity."""


class Log(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[log]`: what is written to standard error."""

    json: bool = True
    level: Literal["debug", "info", "warning", "error"] = "info"


class File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """mayfly.toml."""

    github: GitHubTable
    pools: tuple[Pool, ...]
    server: Server = Server()
    store: Store = Store()
    bus: BusTable = BusTable()
    labels: Labels = Labels()
    access: tuple[Access, ...] = ()
    access_rules: AccessRulesTable = AccessRulesTable()
    tokens: tuple[Token, ...] = ()
    launchers: dict[str, dict[str, Any]] = {}
    """`[launchers.NAME]`: a `backend`, and the backend's own settings."""
    deadlines: Deadlines = Deadlines()
    log: Log = Log()
    runner_prefix: str = "mayfly"
    """Runners are called PREFIX-CLAIM-GENERATION. One prefix for each Mayfly on a GitHub."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the control plane runs with: the file, checked, and its secrets."""

    file: File
    pools: tuple[Pool, ...]
    rules: tuple[AccessRule, ...]
    github: GitHubSettings
    webhook_secrets: tuple[Secret, ...]
    store_url: Secret
    bus_url: Secret
    access_key: Secret | None = None
    """Of the account that keeps the access rules; None: no account, or the managed identity."""

    @property
    def subjects(self) -> list[str]:
        """What is published on the bus: every pool, and what an edge reflector sends."""
        events = [EVENTS] if self.file.github.intake is IntakeKind.BUS else []
        return [*(pool.name for pool in self.pools), *events]


def load(path: Path, environment: Mapping[str, str] = ENVIRONMENT) -> Settings:
    """The settings of `path`; InvalidSettings says which word of which file is wrong."""
    file = decoded(path, File, "`mayfly config example` prints one to start from")
    pools = checked(file.pools, file.labels.convention)
    if not pools:
        raise InvalidSettings(f'{path}: there is no pool; add [[pools]] with name = "…"')
    checked_tokens(file.tokens)
    if file.bus.backend == "remote":
        raise InvalidSettings(
            f'{path}: [bus] backend = "remote" is another control plane\'s bus; name the bus that '
            "this one keeps"
        )
    if file.github.intake is IntakeKind.BUS:
        check_shared(file.bus, pools, path)
    _check_times(file.deadlines, path)
    _check_launchers(file, path)
    if not RUNNER_PREFIX.fullmatch(file.runner_prefix):
        raise InvalidSettings(
            f"{path}: runner_prefix is {file.runner_prefix!r}; use 1 to 30 letters, digits and '-'"
        )
    store_url = url_of(file.store, "store", environment) or Store().url
    return Settings(
        file=file,
        pools=pools,
        rules=tuple(rule_of(access, pools, path) for access in file.access),
        github=_github(file.github, environment),
        webhook_secrets=webhook_secrets_of(
            file.github.webhook_secret_files,
            environment,
            needed=file.github.intake is IntakeKind.PUSH,
        ),
        store_url=Secret(store_url),
        bus_url=Secret(url_of(file.bus, "bus", environment) or store_url),
        access_key=access_key_of(file.access_rules, path, environment),
    )


def url_of(table: Store | BusTable, name: str, environment: Mapping[str, str]) -> str | None:
    """The environment first: an operator says it there for one run."""
    if given := variable(f"MAYFLY_{name.upper()}_URL", environment):
        return given
    if table.url_file is not None:
        return read_secret(table.url_file, f"the url of the {name}")
    return table.url


def check_shared(bus: BusTable, pools: Sequence[Pool], path: Path) -> None:
    """InvalidSettings where events cannot go from an edge reflector to a control plane."""
    if bus.backend in {"memory", "remote"}:
        raise InvalidSettings(
            f"{path}: [bus] backend = {bus.backend!r} is not one that an edge reflector and a "
            "control plane share; use rabbitmq, servicebus or sql"
        )
    if any(pool.name.lower() == EVENTS for pool in pools):
        raise InvalidSettings(
            f"{path}: pool {EVENTS!r} has the name under which an edge reflector's events are on "
            "the bus; give the pool another one"
        )


def _check_times(deadlines: Deadlines, path: Path) -> None:
    # After an outage ledger time runs ahead by two turns, and a heartbeat is seen a turn late.
    needed = deadlines.heartbeat_seconds + 3 * deadlines.turn_seconds
    if needed > deadlines.silent_seconds:
        raise InvalidSettings(
            f"{path}: deadlines.silent_seconds is {deadlines.silent_seconds}; it must be at least "
            f"heartbeat_seconds and three times turn_seconds ({needed}), or executors that are "
            "well seem dead"
        )
    if deadlines.prepare_seconds <= deadlines.silent_seconds:
        raise InvalidSettings(
            f"{path}: deadlines.prepare_seconds is {deadlines.prepare_seconds}; it must be more "
            f"than silent_seconds ({deadlines.silent_seconds}), and than any executor's own "
            "prepare_timeout_seconds"
        )


def _check_launchers(file: File, path: Path) -> None:
    """What can be said without the backends, which have settings of their own."""
    for name, table in file.launchers.items():
        if not isinstance(table.get("backend"), str):
            raise InvalidSettings(f'{path}: [launchers.{name}] names no backend; as in "process"')
    for pool in file.pools:
        if pool.launcher is not None and pool.launcher not in file.launchers:
            known = ", ".join(file.launchers) or "none"
            raise InvalidSettings(
                f"{path}: pool {pool.name!r} names launcher {pool.launcher!r}; known: {known}"
            )
    if not any(pool.launcher for pool in file.pools):
        return
    if file.server.url is None:
        raise InvalidSettings(
            f"{path}: [server] has no url; add the address at which launched executors reach the "
            "control plane"
        )
    # Whether http:// will do is for the executors' own settings to say.
    checked_server(file.server.url, plain_http=True)


def rule_of(access: Access, pools: tuple[Pool, ...], path: Path) -> AccessRule:
    """A declared rule; InvalidSettings when it names no pool."""
    pool = next((pool for pool in pools if pool.name.lower() == access.pool.lower()), None)
    if pool is None:
        known = ", ".join(pool.name for pool in pools)
        raise InvalidSettings(
            f"{path}: [[access]] for {access.owner} names pool {access.pool!r}; known: {known}"
        )
    subject = access.owner
    if access.repository is not None:
        subject = f"{access.owner}/{access.repository}"
    owner, repository = parsed_subject(subject)
    return AccessRule(label=pool.name, owner=owner, repository=repository, declared=True)


def _github(table: GitHubTable, environment: Mapping[str, str]) -> GitHubSettings:
    key = _private_key(table, environment)
    return checked_github(
        GitHubSettings(
            app_id=str(table.app_id),
            private_key=key,
            api_url=table.api_url,
            mints_per_minute=table.mints_per_minute,
        )
    )


def _private_key(table: GitHubTable, environment: Mapping[str, str]) -> Secret | VaultKey:
    pem = variable(KEY_VARIABLE, environment)
    if table.key_vault_key is None:
        return read_key(table.private_key_file, pem, variable=KEY_VARIABLE)
    if table.private_key_file is not None or pem is not None:
        local = table.private_key_file or KEY_VARIABLE
        raise InvalidSettings(
            f"the App's private key is given twice, in [github] key_vault_key and by {local}; "
            "remove the local one"
        )
    return vault_key(table.key_vault_key)


def webhook_secrets_of(
    files: Sequence[Path], environment: Mapping[str, str], *, needed: bool
) -> tuple[Secret, ...]:
    """One, or two while one replaces the other; none where none is needed."""
    found = [read_secret(path, "the webhook's secret") for path in files]
    found += [secret for name in SECRET_VARIABLES if (secret := variable(name, environment))]
    if not found and needed:
        raise InvalidSettings(
            "the webhook's secret is missing; name its file in webhook_secret_files "
            f"or set {SECRET_VARIABLES[0]}"
        )
    if len(found) > LARGEST_ROTATION:
        raise InvalidSettings(
            f"{len(found)} webhook secrets are given; at most two are accepted, the new and the old"
        )
    return tuple(Secret(secret) for secret in found)


def access_key_of(
    table: AccessRulesTable, path: Path, environment: Mapping[str, str]
) -> Secret | None:
    """InvalidSettings when the table is not whole; None: no account, or the managed identity."""
    if table.backend is None:
        if table.url or table.key_file:
            raise InvalidSettings(
                f'{path}: [access_rules] names no backend; add backend = "cosmos"'
            )
        return None
    if table.url is None:
        raise InvalidSettings(f"{path}: [access_rules] names no url; add the account's endpoint")
    if table.key_file is not None:
        return Secret(read_secret(table.key_file, "the account's key"))
    key = variable(COSMOS_KEY_VARIABLE, environment)
    return Secret(key) if key else None


def as_toml(token: Token) -> str:
    """The `[[tokens]]` entry for a token."""
    fields: dict[str, Any] = {"name": token.name, "role": token.role.value, "sha256": token.sha256}
    if token.pools:
        fields["pools"] = list(token.pools)
    lines = [f"{name} = {msgspec.json.encode(value).decode()}" for name, value in fields.items()]
    return "\n".join(["[[tokens]]", *lines])
