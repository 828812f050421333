"""Processes: tasks that live and die together; after a kill nothing of them takes effect."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

T = TypeVar("T")

_current: ContextVar["Process | None"] = ContextVar("process", default=None)
_MANY = 64


class Process:
    """Whatever its tasks start belongs to it. Its ports ask `check` before every effect."""

    def __init__(self, on_error: Callable[[BaseException], object] | None = None) -> None:
        self.dead = False
        self._on_error = on_error
        self._tasks: list[asyncio.Task[Any]] = []
        self._prune_at = _MANY
        self._context = copy_context()
        self._context.run(_current.set, self)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task of this process, whoever asks for it."""
        return self._context.run(asyncio.get_running_loop().create_task, work)

    def check(self) -> None:
        """Stops whoever lives on in a dead process, be it in a `finally` block."""
        if self.dead:
            raise asyncio.CancelledError

    def kill(self) -> None:
        """As by SIGKILL: no task of it gets further than its next port."""
        self.dead = True
        for task in self._tasks:
            task.cancel()

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Called for every new task."""
        if self.dead:
            task.cancel()
        if self._on_error is not None:
            task.add_done_callback(self._tell)
        self._tasks.append(task)
        if len(self._tasks) > self._prune_at:
            self._tasks = [each for each in self._tasks if not each.done()]
            self._prune_at = max(_MANY, 2 * len(self._tasks))

    def _tell(self, task: asyncio.Task[Any]) -> None:
        if self._on_error and not task.cancelled() and (error := task.exception()):
            self._on_error(error)


def task_factory(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], **options: Any
) -> asyncio.Future[T]:
    """Every task belongs to the process that started it."""
    task = asyncio.Task(work, loop=loop, **options)
    if (process := _current.get()) is not None:
        process.adopt(task)
    return task
