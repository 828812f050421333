"""A RabbitMQ of the tests' own: private files, private ports, gone afterwards."""

import atexit
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

import aio_pika

from mayfly.bus.rabbitmq import queues
from mayfly.bus.rabbitmq.names import Names
from tests.servers.absent import absent

HOST = "127.0.0.1"
DEADLINE = 60.0
"""Seconds for the server to begin on a busy machine; alone it takes 7."""
DAEMON = "daemon:may-not-configure"
NOBODY = "nobody:may-do-nothing"
READER = "reader:may-not-write"
WRITER = "writer:may-not-read"
EDGE = "edge:may-publish-events"
EVERYTHING = "mayfly:may-do-everything"
CLOSED = "closed"
"""A virtual host that lets nobody in."""
KILLED, RESTARTED = ONCE = ("killed", "restarted")
"""Virtual hosts for a test each: 3.10 forgets a queue that was deleted, made anew, and killed."""

# The server and whoever watches over it are one process group, which goes with the tests' process.
_GUARD = """
exec 3<&0
( cat <&3 >/dev/null; epmd -port "$ERL_EPMD_PORT" -kill; rm -rf "$HOME"; kill -KILL 0 ) &
"$@" </dev/null &
wait $!
"""


def installed() -> Path | None:
    """The newest version's program; the one in the path would change its user and use /var."""
    found = Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server")
    return max(found, key=_version, default=None)


def _version(program: Path) -> list[int]:
    return [int(part) for part in program.parts[-3].partition("-")[2].split(".") if part.isdigit()]


class RabbitMQServer:
    """Starts, stops, is killed and started again, with what it had stored."""

    def __init__(self) -> None:
        program = installed()
        assert program is not None
        self._program = program
        self.port, self._distribution, self._epmd = _free_ports(3)
        self._folder = Path(tempfile.mkdtemp(prefix="mayfly-rabbitmq-"))
        self._process: subprocess.Popen[bytes] | None = None
        (self._folder / "definitions.json").write_text(json.dumps(_definitions()))
        (self._folder / "rabbit.conf").write_text(
            f"listeners.tcp.1 = {HOST}:{self.port}\n"
            f"load_definitions = {self._folder}/definitions.json\n"
        )

    def start(self) -> None:
        """Until it takes connections."""
        with (self._folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                ["sh", "-c", _GUARD, "guard", str(self._program)],
                env=self._environment(),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        end = time.monotonic() + DEADLINE
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "output").read_text()
            assert time.monotonic() < end, "RabbitMQ does not begin"
            time.sleep(0.05)

    def stop(self) -> None:
        """In good order."""
        if self._process is not None:
            os.kill(int((self._folder / "pid").read_text()), signal.SIGTERM)
            self._process.wait(DEADLINE)
            self.kill()

    def kill(self) -> None:
        """At once, with the guard."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(DEADLINE)
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process = None

    def remove(self) -> None:
        """Nothing is left."""
        self.kill()
        kill = ["epmd", "-port", str(self._epmd), "-kill"]
        subprocess.run(kill, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, user: str = EVERYTHING, host: str = "", port: int | None = None) -> str:
        """USER:PASSWORD and a virtual host; another port for a line in between."""
        return f"amqp://{user}@{HOST}:{port or self.port}/{host}"

    async def clear(self, *subjects: str) -> None:
        """As if nobody had declared anything for them; faster than a virtual host of their own."""
        connection = await aio_pika.connect(self.url())
        async with connection, connection.channel() as channel:
            await queues.remove(channel, Names(), subjects)

    def names(self) -> set[str]:
        """Of every queue and exchange in every virtual host."""
        program = self._program.with_name("rabbitmqctl")
        everything = "rabbit_amqqueue:list_names() ++ rabbit_exchange:list_names()."
        listed = subprocess.run(
            [str(program), "-n", f"mayfly{self.port}@localhost", "eval", everything],
            env=self._environment(),
            check=True,
            capture_output=True,
            timeout=DEADLINE,
        )
        found = re.findall(r'(?:queue|exchange),\s*<<"([^"]*)">>', listed.stdout.decode())
        assert "amq.topic" in found, "it was asked the right question"
        return set(found)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return bool(connection.recv(1))
        except OSError:
            return False

    def _environment(self) -> dict[str, str]:
        folder = self._folder
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_PORT": str(self._epmd),
            "ERL_EPMD_RELAXED_COMMAND_CHECK": "true",  # it can be ended though a node was killed
            "RABBITMQ_NODENAME": f"mayfly{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbit"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "absent.config"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "absent.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "stored"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
        }


def needed() -> None:
    """Ends the test where RabbitMQ is not installed."""
    if installed() is None:
        absent("RabbitMQ is not installed (Debian: rabbitmq-server)")


@cache
def shared() -> RabbitMQServer:
    """One for all tests of this process, begun with the first that needs it."""
    needed()
    server = RabbitMQServer()
    atexit.register(server.remove)
    server.start()
    return server


@cache
def mortal() -> RabbitMQServer:
    """One that tests may stop and kill, each in a virtual host of ONCE; it is left running."""
    needed()
    server = RabbitMQServer()
    atexit.register(server.remove)
    server.start()
    return server


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _definitions() -> dict[str, object]:
    """Users and their rights, as docs/how-to/use-rabbitmq.md has them."""
    rights = {
        EVERYTHING: (".*", ".*", ".*"),
        DAEMON: ("^$", "^mayfly(-dead)?$", r"^mayfly(-dead)?\..*"),
        EDGE: ("^$", "^mayfly(-dead)?$", r"^mayfly(-dead)?\.events$"),
        NOBODY: ("^$", "^$", "^$"),
        READER: ("^$", "^$", ".*"),
        WRITER: ("^$", "^mayfly$", r"^mayfly\.linux$"),
    }
    users = [user.split(":") for user in rights]
    return {
        "vhosts": [{"name": host} for host in ("/", CLOSED, *ONCE)],
        "users": [{"name": name, "password": word, "tags": ""} for name, word in users],
        "permissions": [
            {
                "user": user.partition(":")[0],
                "vhost": host,
                "configure": configure,
                "write": write,
                "read": read,
            }
            for host in ("/", *ONCE)
            for user, (configure, write, read) in rights.items()
        ],
    }
