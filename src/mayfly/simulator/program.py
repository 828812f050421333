"""Packs the runner program where an unprivileged user can run it."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from zipfile import ZipFile, ZipInfo

PACKAGE: Final = Path(__file__).with_name("runner")
MAIN: Final = "from runner.life import main\n\nmain()\n"


def runner_program(into: Path) -> Path:
    """Write the runner program into a directory, readable and executable by everyone.

    It is one file, to be started as `PYTHON FILE [options]`: a zip application, because a Python
    started with -I does not look for modules beside a script.
    """
    into.mkdir(parents=True, exist_ok=True)
    program = into / "runner.pyz"
    # A runner that waits reads its program again when a job comes: it finds the same bytes there,
    # whoever wrote them in the meantime, and never half of them.
    fresh = program.with_suffix(".new")
    _pack(fresh)
    fresh.chmod(0o755)
    fresh.replace(program)
    return program


def _pack(target: Path) -> None:
    with target.open("wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with ZipFile(file, "w") as archive:
            # A ZipInfo of its own: no file times, which differ and may be too old for a zip.
            archive.writestr(ZipInfo("__main__.py"), MAIN)
            for module in sorted(PACKAGE.glob("*.py")):
                archive.writestr(ZipInfo(f"runner/{module.name}"), module.read_bytes())
