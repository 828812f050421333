"""The one life of a runner: connect, wait for a job, run it and leave."""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import partial

from .config import UnusableConfig, find_config
from .process import Signals, Stopped, say
from .wire import Server, patiently

TYPE_CHECKING = False  # typing's own, without importing typing
if TYPE_CHECKING:
    from .wire import Reply


def main() -> None:
    """Live with the words of the command line, and exit with what came of it."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit code: 0 also when stopped, 1 when refused, 2 when GitHub cannot be reached."""
    signals = Signals()
    server = None
    try:
        files = find_config(arguments)
        settings = files[".runner"]
        credentials = files[".credentials"]["Data"]
        server = Server(str(credentials["SimulatorUrl"]), str(credentials["Token"]))
        root = str(settings.get("WorkFolder") or "_work")
        name = str(settings["AgentName"])
        renew_seconds = open_session(server, signals)
        if renew_seconds is None:
            return 1
        say(f"Connected to GitHub\nListening for Jobs as {name}")
        return live(server, signals, name, root, renew_seconds)
    except Stopped:
        return leave(server)
    except OSError as error:
        say(f"GitHub cannot be reached: {error}")
        return 2
    except (UnusableConfig, KeyError, TypeError, ValueError, AttributeError) as error:
        say(f"The runner configuration cannot be used: {error!r}")
        return 1


def open_session(server: Server, signals: Signals) -> float | None:
    """Use the JIT config up; None when GitHub refuses it."""

    def attempt() -> Reply:
        # A signal waits for the answer: only with its token can the session be closed again.
        signals.idle = False
        try:
            status, reply = server.call("POST", "/session")
            if status == 201:
                server.token = reply["session"]
            return status, reply
        finally:
            signals.idle = True
            signals.check()

    status, reply = patiently(attempt)
    if status != 201:
        message = (reply or {}).get("message", "")
        say(f"GitHub refused the runner: {status} {message}")
        return None
    return float(reply["renew_seconds"])


def live(server: Server, signals: Signals, name: str, root: str, seconds: float) -> int:
    """Wait for one job and run it."""
    while True:
        status, reply = patiently(lambda: server.call("GET", "/message", timeout=90))
        if status == 404:
            say("The runner registration has been deleted from GitHub")
            return 0
        if status == 200 and run_job(server, signals, name, root, f"/jobs/{reply['job']}", seconds):
            return 0


def run_job(
    server: Server, signals: Signals, name: str, root: str, path: str, seconds: float
) -> bool:
    """Run the job at `path`; False when GitHub has given it to another in the meantime."""
    # From here on a signal must not lose the job: it is run, or reported as cancelled.
    signals.idle = False
    status, message = patiently(partial(server.call, "POST", path + "/acquire"))
    if status == 200:
        from .job import Job  # noqa: PLC0415 - an idle runner does not pay for it

        Job(server, signals, name, root, path, message, seconds).run()
        return True
    signals.idle = True
    signals.check()
    return False


def leave(server: Server | None) -> int:
    """Close the session; the exit code of a runner that was told to stop."""
    # Unheard, GitHub finds out by the silence.
    with suppress(OSError):
        if server is not None:
            server.call("DELETE", "/session", timeout=3)
    say("Exiting...")
    return 0
