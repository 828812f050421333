"""`mayfly demo`: it runs to its end, and however it is ended, nothing of it is left."""

import os
import re
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.programs import Program, named_after, until
from tests.servers import postgres as postgres_servers
from tests.servers import rabbitmq as rabbitmq_servers
from tests.servers.postgres import PostgresServer
from tests.servers.rabbitmq import RabbitMQServer

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


@pytest.fixture(scope="module")
def postgres() -> PostgresServer:
    return postgres_servers.shared()


@pytest.fixture(scope="module")
def rabbitmq() -> RabbitMQServer:
    return rabbitmq_servers.shared()


async def demo(place: Path, *options: str, **urls: str) -> Program:
    log = place.parent / "demo.log"
    environment = {"TMPDIR": str(place), **urls}
    return await Program.started("demo", log, "demo", *options, environment=environment)


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
    await check_all_jobs_ran(program)
    await check_nothing_is_left(place)


async def check_all_jobs_ran(program: Program) -> None:
    assert await program.ended(90) == 0, program.log.read_text()
    said = program.log.read_text()
    table = said[said.index("DECISION") :]
    assert table.count(" admitted ") == ADMITTED
    assert sum(" refused " in row for row in table.splitlines()) == REFUSED
    assert f"{ADMITTED} jobs ran" in table


ON_SERVERS = ("--store", "postgres", "--bus", "rabbitmq")
OWN = re.compile(r"mayfly_demo_[0-9a-f]{8}")


@pytest.mark.parametrize("number", [None, signal.SIGINT], ids=["to its end", "told to stop"])
async def test_a_demo_on_servers_leaves_nothing_in_them(
    place: Path, postgres: PostgresServer, rabbitmq: RabbitMQServer, number: int | None
):
    before = await postgres.databases(), rabbitmq.names()
    program = await demo(
        place,
        *ON_SERVERS,
        MAYFLY_STORE_URL=postgres.url("postgres"),
        MAYFLY_BUS_URL=rabbitmq.url(),
    )
    during = await at_work(place, postgres, rabbitmq)
    if number is None:
        await check_all_jobs_ran(program)
    else:
        program.send(number)
        assert await program.ended() == 130
        assert program.lines()[-1].endswith("cleaned up.")
    databases, names = during[0] - before[0], during[1] - before[1]
    (own,) = databases
    assert OWN.fullmatch(own)
    entities = {f"{own}{kind}{pool}" for kind in ("", "-dead") for pool in ("", ".linux", ".gpu")}
    assert names == entities
    assert (await postgres.databases(), rabbitmq.names()) == before
    await check_nothing_is_left(place)
    said = program.log.read_text()
    assert f"database {own} at 127.0.0.1:{postgres.port}" in said
    assert f"{own}… of RabbitMQ at 127.0.0.1:{rabbitmq.port}" in said
    assert "may-do-everything" not in said


async def at_work(
    place: Path, postgres: PostgresServer, rabbitmq: RabbitMQServer
) -> tuple[set[str], set[str]]:
    """What there is in the servers once a job runs."""
    await until(lambda: list(place.glob("mayfly-demo-*/state/slots/*/work-*")), "a job")
    return await postgres.databases(), rabbitmq.names()


async def test_a_demo_says_what_it_could_not_remove(place: Path):
    postgres_servers.needed()
    mortal = PostgresServer()
    try:
        mortal.start()
        url = mortal.url("postgres")
        program = await demo(place, "--store", "postgres", MAYFLY_STORE_URL=url)
        await until(lambda: list(place.glob("mayfly-demo-*/logs/executor-2.log")), "the demo")
        mortal.stop()
        program.send(signal.SIGTERM)
        assert await program.ended() == 130
    finally:
        mortal.remove()
    assert re.search(r"left behind: .*database mayfly_demo_[0-9a-f]{8} at ", program.lines()[-1])
    await check_nothing_is_left(place)


@pytest.mark.parametrize(
    ("options", "urls", "code", "sentence"),
    [
        (("--bus", "kafka"), {}, 2, "--bus 'kafka' is unknown; choose sql, sqlite, postgres,"),
        (("--store", "mysql"), {}, 2, "--store 'mysql' is unknown; choose sqlite, postgres"),
        (
            ("--store", "postgres"),
            {"MAYFLY_STORE_URL": "postgresql://me:HIDDEN@127.0.0.1:1/x"},
            1,
            "127.0.0.1:1 cannot be opened",
        ),
        (
            ("--bus", "rabbitmq"),
            {"MAYFLY_BUS_URL": "amqp://me:HIDDEN@127.0.0.1:1/"},
            1,
            "start it, or name another server in MAYFLY_BUS_URL",
        ),
        (("--bus", "rabbitmq"), {"MAYFLY_BUS_URL": "sqlite:///HIDDEN"}, 2, "not amqp://"),
        (("--bus", "servicebus"), {}, 2, "MAYFLY_BUS_URL"),
    ],
)
async def test_a_demo_without_its_server_is_one_sentence(
    place: Path, options: tuple[str, ...], urls: dict[str, str], code: int, sentence: str
):
    program = await demo(place, *options, **urls)
    assert await program.ended() == code
    errors = [line for line in program.lines() if line.startswith("mayfly: ")]
    assert len(errors) == 1
    assert sentence in errors[0]
    assert errors[0] == program.lines()[-1]
    assert "HIDDEN" not in program.log.read_text()
    await check_nothing_is_left(place)


async def test_a_user_that_may_make_no_database_is_told_so(place: Path, postgres: PostgresServer):
    await postgres.execute("CREATE ROLE plain LOGIN")
    try:
        url = postgres.url("postgres").replace("mayfly@", "plain@")
        program = await demo(place, "--store", "postgres", MAYFLY_STORE_URL=url)
        assert await program.ended() == 2
    finally:
        await postgres.execute("DROP ROLE plain")
    assert "CREATEDB" in program.lines()[-1]
    await check_nothing_is_left(place)


async def test_a_demo_takes_no_setting_of_a_real_control_plane(place: Path):
    """Whoever has these variables set for their own would find eight jobs in their ledger."""
    theirs = place.parent / "theirs.sqlite"
    program = await demo(
        place,
        MAYFLY_STORE_URL=f"sqlite:///{theirs}",
        MAYFLY_BUS_URL=f"sqlite:///{theirs}",
        MAYFLY_WEBHOOK_SECRET="another",
    )
    await until(lambda: list(place.glob("mayfly-demo-*/state/slots/*/work-*")), "a job")
    program.send(signal.SIGTERM)
    assert await program.ended() == 130
    assert not theirs.exists()


async def test_from_zero_each_job_gets_an_executor_and_then_none_runs(place: Path):
    program = await demo(place, "--scale", "zero")
    assert await program.ended() == 0
    said = " ".join(program.log.read_text().split())
    assert "12 executors were started, at most 4 at once, and none runs any more" in said
    assert "12 jobs ran, each on its own runner" in said
    await check_nothing_is_left(place)


async def test_executors_that_were_started_do_not_outlive_a_demo_that_is_stopped(place: Path):
    program = await demo(place, "--scale", "zero")
    started = "mayfly-demo-*/launches/launches/pool-linux/*/group"
    await until(lambda: list(place.glob(started)), "a started executor")
    program.send(signal.SIGTERM)
    assert await program.ended() == 130
    await check_nothing_is_left(place)
