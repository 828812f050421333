"""What the module of a backend offers; it is found by its entry point."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from mayfly.model.deadlines import Deadlines
from mayfly.ports import AccessRules, Clock, Launcher, Ledger, OperableBus


class OpenBus(Protocol):
    """`open_bus` of a bus backend: the bus lives as long as the context.

    InvalidSettings when it can never work, or lacks what it does not make (without `declares`).
    """

    def __call__(
        self, url: str, clock: Clock, subjects: Sequence[str], *, declares: bool = True
    ) -> AbstractAsyncContextManager[OperableBus]: ...


class DeclareBus(Protocol):
    """`declare` of a bus backend: make what `subjects` need on the server. Idempotent."""

    async def __call__(self, url: str, subjects: Sequence[str]) -> list[str]:
        """What there is now, a line each."""


class Elsewhere(NamedTuple):
    """`elsewhere` of a bus backend: a bus of another name on the server of a url."""

    url: str
    """It may hold a password."""
    shown: str
    """What is made there and where, without one."""


class RemoveBus(Protocol):
    """`remove` of a bus backend: take away all that `declare` has made there. Idempotent."""

    async def __call__(self, url: str, subjects: Sequence[str]) -> None: ...


class OpenStore(Protocol):
    """`open_store` of a store backend: ledger and access rules live as long as the context."""

    def __call__(
        self, url: str, clock: Clock, deadlines: Deadlines
    ) -> AbstractAsyncContextManager[tuple[Ledger, AccessRules]]: ...


class OpenAccessRules(Protocol):
    """`open_access_rules` of a backend that keeps them alone, apart from the ledger.

    InvalidSettings when it will not have us; an account that does not answer is none.
    """

    def __call__(
        self, url: str, clock: Clock, *, database: str, key: str | None
    ) -> AbstractAsyncContextManager[AccessRules]: ...


class OpenLauncher(Protocol):
    """`open_launcher` of a launcher backend: what it started outlives the context.

    `settings` is of the backend's own `Settings`, `server` what its executors call the control
    plane. InvalidSettings when it can never work; a platform that does not answer is none.
    """

    def __call__(
        self, settings: object, *, server: str, pools: Sequence[str], clock: Clock
    ) -> AbstractAsyncContextManager[Launcher]: ...
