"""Programs of an operator, one at a time, each under a keeper: none outlives the executor."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mayfly.drivers.accounts import Account
from mayfly.drivers.jitconfig import without
from mayfly.drivers.kept import Kept, Order, end_predecessor
from mayfly.drivers.runs import user
from mayfly.model.errors import Permanent


class Ended(NamedTuple):
    """How a program came to its end, with whatever it had started."""

    exit_code: int | None
    """None: it could not be run, or its keeper vanished; -N: signal N ended it."""
    said: list[str]
    """The last lines of its output, or why it could not be run."""


class Private(NamedTuple):
    """Where a program runs apart from the operator's others."""

    directory: Path
    account: Account
    environment: dict[str, str]
    """Beside the others'; the program alone gets it."""


class Programs:
    """What runs programs; `home` keeps word of the one that runs."""

    def __init__(self, home: Path, environment: dict[str, str], grace_seconds: float) -> None:
        self._record = home / "keeper.json"
        self._environment = environment
        self._grace = grace_seconds
        self._running: Kept | None = None
        self._spare: Kept | None = None
        self._turn = asyncio.Lock()
        self.orderly = True
        """Whether nothing is left of the last program that ended."""

    async def ended(
        self,
        command: tuple[str, ...],
        *,
        given: str | None = None,
        within: float | None = None,
        private: Private | None = None,
        secrets: tuple[str, ...] = (),
    ) -> Ended:
        """Run it with `given` on its stdin. Permanent when it takes longer than `within` seconds.

        Cancelling ends it: asked first, killed after the grace time. What it says of `secrets` is
        left out.
        """
        async with self._turn:
            kept = self._running = await self._stand_by()
            self._spare = None
            try:
                kept.record(self._record)
                kept.order(self._order(command, given, private))
                with suppress(Permanent):  # the next program asks again, and tells
                    await self._stand_by()
                async with asyncio.timeout(within):
                    report = await kept.ended()
            except TimeoutError:
                raise Permanent(
                    f"{command[0]} was ended, because it took longer than {within} s"
                    f"{spoken(without(kept.output(), secrets))}"
                ) from None
            finally:
                await kept.stop()
                self.orderly = kept.orderly
                self._record.unlink(missing_ok=True)
                self._running = None
        if report is not None and report.refused is not None:
            return Ended(None, [report.refused])
        said = without(kept.output(), secrets)
        return Ended(report.exit_code if report else None, said)

    async def begin(self) -> None:
        """A keeper waits, so that no job has to; Permanent when none can be started."""
        await self._stand_by()

    async def close(self) -> None:
        """No program runs, and no keeper waits for one."""
        await self.stop()
        if self._spare is not None:
            await self._spare.stop()
            self._spare = None

    async def stop(self) -> None:
        """No program runs, neither of ours nor of a crashed predecessor."""
        if self._running is not None:
            await self._running.stop()
        elif self._record.exists():
            await end_predecessor(self._record, self._grace)
            self._record.unlink(missing_ok=True)

    async def _stand_by(self) -> Kept:
        """The keeper of the next program; it takes a while to start and is therefore kept ready."""
        self._spare = await Kept.ready(self._spare)
        return self._spare

    def _order(self, command: tuple[str, ...], given: str | None, private: Private | None) -> Order:
        return Order(
            command=command,
            environment=self._environment | (private.environment if private else {}),
            directory=str(private.directory) if private else "/",
            user=user(private.account) if private else None,
            input=given,
            no_new_privileges=private is not None,
            grace_seconds=self._grace,
        )


def sentence(role: str, command: tuple[str, ...], ended: Ended) -> str:
    """What a program that failed was for, how it ended and what it said."""
    code = ended.exit_code
    how = "could not be run" if code is None else f"ended with exit code {code}"
    return f"{role} ({command[0]}) {how}{spoken(ended.said)}"


def spoken(lines: list[str], longest: int = 2000) -> str:
    """The end of a sentence that tells what a program said."""
    said = " | ".join(lines)[-longest:]
    return f"; it said: {said}" if said else " and said nothing"
