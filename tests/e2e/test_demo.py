"""`mayfly demo`: it runs to its end, and however it is ended, nothing of it is left."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.programs import Program, named_after, until

ADMITTED, REFUSED = 6, 2


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory for temporary files that the jobs' user may pass through."""
    with tempfile.TemporaryDirectory(prefix="mayfly-e2e-") as made:
        directory = Path(made) / "tmp"
        Path(made).chmod(0o755)
        directory.mkdir()
        directory.chmod(0o755)
        yield directory
        for survivor in named_after(directory):  # of a test that failed
            os.kill(int(survivor.split()[0]), signal.SIGKILL)


async def demo(place: Path) -> Program:
    log = place.parent / "demo.log"
    return await Program.started("demo", log, "demo", environment={"TMPDIR": str(place)})


def left_in(place: Path) -> list[Path]:
    return list(place.iterdir())


async def check_nothing_is_left(place: Path) -> None:
    assert left_in(place) == []
    await until(lambda: not named_after(place), f"no process of {place}")


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda number: number.name
)
@pytest.mark.parametrize(
    "moment", ["secrets/app.pem", "logs/executor-2.log", "state/slots/*/work-*"]
)
async def test_a_demo_that_is_told_to_stop_leaves_nothing(place: Path, number: int, moment: str):
    program = await demo(place)
    await until(lambda: list(place.glob(f"mayfly-demo-*/{moment}")), f"{moment} of the demo")
    program.send(number)
    program.send(number)  # as `timeout` does, which signals the process and its group
    assert await program.ended() == 130
    assert "told to stop" in program.lines()[-1]
    assert program.survivors() == []
    await check_nothing_is_left(place)


async def test_a_whole_demo_runs_its_jobs_and_leaves_nothing(place: Path):
    program = await demo(place)
    assert await program.ended(90) == 0, program.log.read_text()
    said = program.log.read_text()
    table = said[said.index("DECISION") :]
    assert table.count(" admitted ") == ADMITTED
    assert sum(" refused " in row for row in table.splitlines()) == REFUSED
    assert f"{ADMITTED} jobs ran" in table
    await check_nothing_is_left(place)
