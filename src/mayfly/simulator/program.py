"""Puts the runner program where an unprivileged user can run it."""

from __future__ import annotations

from pathlib import Path

SOURCE = Path(__file__).with_name("runner.py")


def runner_program(into: Path) -> Path:
    """Copy the runner program into a directory, readable and executable by everyone."""
    into.mkdir(parents=True, exist_ok=True)
    program = into / "runner.py"
    program.write_bytes(SOURCE.read_bytes())
    program.chmod(0o755)
    return program
