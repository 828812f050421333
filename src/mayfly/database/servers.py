"""A PostgreSQL server: how it is connected to, and its errors as ours."""

from typing import Any

import asyncpg
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from mayfly.database.addresses import place_of
from mayfly.model.errors import InvalidSettings, MayflyError, Transient

CONNECT_SECONDS = 5.0
"""A server that is there answers in milliseconds; a readiness probe waits for two seconds."""
STATEMENT_SECONDS = 10
"""No statement of ours takes a tenth of it at a backlog of 100,000 jobs."""
LOCK_SECONDS = 5
"""How long a step waits for another one's; a step takes milliseconds."""
IDLE_SECONDS = 5
"""A transaction whose process has stopped in its middle holds its locks no longer than that."""
MIGRATION_IDLE_SECONDS = 60
"""The same for a migration, which works on rows between two statements."""
GRACE_SECONDS = 5.0
"""After its own limit, a server that has not ended a statement is taken for dead."""

_DRIVER = (asyncpg.InterfaceError, asyncpg.InternalClientError)
"""The second one comes from a session whose server has said good-bye and not closed it yet."""
ERRORS = (SQLAlchemyError, asyncpg.PostgresError, *_DRIVER, OSError, TimeoutError)
"""All that SQLAlchemy, the driver and the network raise."""
_MET = {"40001", "40P01", "23505", "0A000"}
"""Serialization failure, deadlock, the same new row twice, a plan of before a migration."""
_PASSES = ("08", "25P03", "40", "53", "55", "57", "58")
"""Classes of states that pass: connections, locks, resources, an operator's or a system's error."""
_SETTINGS = ("28", "3D", "3F", "42501")
"""Password, database, schema, rights: a person has to act."""
_REFUSED = (*_SETTINGS, "25006", "42P01")
"""The same while we run, a standby, and a table that is gone: it may be restored just now."""


class Met(Exception):
    """Nothing was changed, and the same step may succeed at once; `told` when it never does."""

    def __init__(self, told: BaseException) -> None:
        super().__init__(str(told))
        self.told = told


class Server:
    """Connections to one database of one server."""

    def __init__(self, address: URL) -> None:
        self.place = place_of(address)
        query = dict(address.query)
        if "ssl" in query:  # asyncpg's own word for libpq's
            query["sslmode"] = {"true": "require", "false": "disable"}.get(
                str(query["ssl"]), query.pop("ssl")
            )
        plain = address.set(drivername="postgresql", query=query)
        self._dsn = plain.render_as_string(hide_password=False)

    def writing(self) -> dict[str, Any]:
        """Arguments of connections whose every wait is bounded, here and on the server."""
        return self._arguments(
            statement_timeout=f"{STATEMENT_SECONDS}s",
            lock_timeout=f"{LOCK_SECONDS}s",
            default_transaction_isolation="read committed",
        )

    def reading(self) -> dict[str, Any]:
        """Arguments of connections that see one snapshot and change nothing."""
        return self._arguments(
            statement_timeout=f"{STATEMENT_SECONDS}s",
            default_transaction_isolation="repeatable read",
            default_transaction_read_only="on",
        )

    def migrating(self) -> dict[str, Any]:
        """Arguments of a connection that may take its time."""
        patience = {"idle_in_transaction_session_timeout": f"{MIGRATION_IDLE_SECONDS}s"}
        return {**self._arguments(**patience), "command_timeout": None}

    async def connect(self) -> asyncpg.Connection:
        """A connection outside the pools, for what belongs to a session."""
        return await asyncpg.connect(**self._arguments())

    def told(self, error: BaseException, *, committing: bool) -> MayflyError | Met | None:
        """Ours for it; None when it is a mistake of ours, which its traceback shows best."""
        state, lost = _state(error), _is_lost(error)
        if is_refused(error):
            return self.refused(_reason(error))
        if not (lost or state.startswith(_PASSES) or state in _MET):
            return None
        unknown = committing and state not in _MET
        end = (
            "whether it was done is not known, and asking again is safe"
            if unknown
            else "nothing was changed"
        )
        ours = Transient(f"the database {self.place} does not answer: {_reason(error)}; {end}")
        ours.__cause__ = error
        if state == "23505":
            return Met(error)
        # A connection that was dead before it was used: the next one may be to a new server.
        stale = isinstance(error, DBAPIError) and error.connection_invalidated and not unknown
        return Met(ours) if stale or state in _MET else ours

    def busy(self) -> Transient:
        """A step has met others in every one of its tries."""
        return Transient(f"the database {self.place} is busy; nothing was changed")

    def refused(self, reason: str) -> Transient:
        """A person has to act, and it works afterwards."""
        return Transient(f"the database {self.place} refuses: {reason}; nothing was changed")

    def unusable(self, error: BaseException) -> MayflyError:
        """What `serve` says when it cannot begin."""
        words = f"the database {self.place} cannot be opened: {_reason(error)}"
        if _state(error).startswith(_SETTINGS):
            return InvalidSettings(f"{words}; check its name, its user and that user's rights")
        if isinstance(_cause(error), asyncpg.ClientConfigurationError | ValueError):
            return InvalidSettings(f"{words}; check store.url")
        return Transient(f"{words}; is it running, and may it be reached from here?")

    def _arguments(self, **settings: str) -> dict[str, Any]:
        # The server notices by keepalives when our machine is gone, and frees our locks.
        always = {
            "application_name": "mayfly",
            "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
            "tcp_keepalives_idle": "5",
            "tcp_keepalives_interval": "2",
            "tcp_keepalives_count": "3",
        }
        return {
            "dsn": self._dsn,
            "timeout": CONNECT_SECONDS,
            "command_timeout": STATEMENT_SECONDS + GRACE_SECONDS,
            "server_settings": {**always, **settings},
        }


def is_refused(error: BaseException) -> bool:
    """The server will not do it for us as things are."""
    return _state(error).startswith(_REFUSED)


def is_spent(error: BaseException) -> bool:
    """The connection is of no more use, although nobody else sees to it."""
    return is_refused(error) or isinstance(error, asyncpg.InternalClientError)


def _cause(error: BaseException) -> BaseException:
    """The driver's own error inside SQLAlchemy's two."""
    inner = getattr(error, "orig", error)
    return inner.__cause__ or inner


def _state(error: BaseException) -> str:
    """PostgreSQL's five characters; empty when it has not spoken."""
    cause = getattr(error, "orig", error)
    return str(getattr(cause, "sqlstate", None) or "")


def _is_lost(error: BaseException) -> bool:
    """The server was not reached, or not any more."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or "connection is closed" in str(error.orig)
    return isinstance(error, (OSError, TimeoutError, PoolTimeout, *_DRIVER))


def _reason(error: BaseException) -> str:
    """One line of the driver's words; a time-out has none."""
    words = str(getattr(error, "orig", error)).strip().splitlines()
    if not words:
        return "it took too long"
    # SQLAlchemy puts the driver's class before its words.
    return words[0].partition(">: ")[2] if words[0].startswith("<class") else words[0]
