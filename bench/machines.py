"""The machine a figure belongs to, and processes pinned to one of its cores."""

import os
import platform
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def named() -> str:
    """Processor, cores, kernel and Python in one line."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", cpuinfo)
    return (
        f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, "
        f"Linux {platform.release()}, Python {platform.python_version()}"
    )


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def pinned(core: int, *command: str, port: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process of this Python on one core, ready once `port` answers; ended afterwards."""
    arguments = ["taskset", "-c", str(core), sys.executable, *command]
    process = subprocess.Popen(arguments)
    try:
        deadline = time.monotonic() + 30
        while port is not None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None:
                    raise RuntimeError(f"{command} ended with {process.returncode}") from None
                time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(20)
