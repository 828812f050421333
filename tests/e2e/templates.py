"""A runner's template that cannot be copied yet: preparing takes as long as a test wants."""

import fcntl
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.programs import Program, arguments_of, until


class Template:
    """A directory with a file nobody can open while it is held."""

    def __init__(self, path: Path, held: int) -> None:
        self.path = path
        self._held = held

    async def being_copied(self, executor: Program) -> int:
        """The process of `executor` that copies the template, and waits."""

        def look() -> int | None:
            copies = [pid for pid in executor.children() if str(self.path) in arguments_of(pid)]
            return copies[0] if copies else None

        return await until(look, f"{executor.name} preparing")

    def release(self) -> None:
        """Copying goes on."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1


@contextmanager
def slow_template(directory: Path) -> Iterator[Template]:
    """A template in `directory`, held by a file lease (fcntl(2)): opening waits up to 45 s."""
    path = directory / "template"
    path.mkdir()
    (path / "notes.txt").write_text("what a runner comes with\n")
    path.chmod(0o755)
    before = signal.signal(signal.SIGIO, lambda *_: None)  # the kernel asks for the lease back
    held = os.open(path / "notes.txt", os.O_RDWR)
    template = Template(path, held)
    try:
        try:
            fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError as error:
            pytest.skip(f"no file leases in {directory}: {error}")
        yield template
    finally:
        template.release()
        signal.signal(signal.SIGIO, before)
        shutil.rmtree(path)
