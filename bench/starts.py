"""Cold start of an executor, and what a parked executor and an idle control plane cost."""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from bench.machines import free_port, pinned
from bench.places import SQLITE, servers
from bench.webhooks import SECRET, SETTINGS
from mayfly.simulator import generate_app_key

IDLE_SECONDS = 20.0
RUNNER = '[runner]\ncommand = ["/bin/true"]\njit = "stdin"\n'


def measure(rounds: int = 7) -> None:
    """Interleaved rounds; medians, the ratio, memory and idle use."""
    imports, starts, peaks = [], [], []
    for _ in range(rounds):
        imports.append(_import_httpx())
        seconds, peak = asyncio.run(_first_lease())
        starts.append(seconds)
        peaks.append(peak)
    start, httpx = statistics.median(starts), statistics.median(imports)
    print("executor, cold start to its first lease request")
    print(f"  python -c 'import httpx'             {httpx * 1000:8.0f} ms")
    print(f"  mayfly executor                      {start * 1000:8.0f} ms")
    print(f"  executor / httpx                     {start / httpx:8.2f}")
    print(f"  peak memory                          {statistics.median(peaks):8.1f} MB")
    memory, share = _idle_plane()
    print(f"control plane, idle for {IDLE_SECONDS:.0f} s")
    print(f"  memory                               {memory:8.1f} MB")
    print(f"  of one core                          {share:8.2%}")


def _import_httpx() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import httpx"], check=True)
    return time.perf_counter() - began


async def _first_lease() -> tuple[float, float]:
    """Seconds to the request, and the process's peak memory in MB at that moment."""
    leased: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):  # the executor ends its connections unasked
            await converse(reader, writer)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            await reader.readexactly(length)
            if b"/lease" in head and not leased.done():
                leased.set_result(time.perf_counter())
                return
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "token").write_text("bench")
        (directory / "executor.toml").write_text(RUNNER)
        command = [str(Path(sys.executable).with_name("mayfly")), "executor", "--pool", "linux"]
        command += ["--url", f"http://127.0.0.1:{port}", "--token-file", f"{directory}/token"]
        command += ["--config", f"{directory}/executor.toml", "--state-dir", f"{directory}/state"]
        began = time.perf_counter()
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            seconds = await asyncio.wait_for(leased, 30) - began
            peak = memory_of(process.pid, "VmHWM")
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, 20)
            server.close()
    return seconds, peak


def memory_of(pid: int, line: str = "VmRSS") -> float:
    """MB, from the kernel's own record."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{line}:")[2].split()[0]) / 1024


def _idle_plane() -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as name, servers() as started:
        directory, port = Path(name), free_port()
        (directory / "app.pem").write_text(generate_app_key()[0])
        (directory / "secret").write_text(SECRET)
        config = directory / "mayfly.toml"
        places = SQLITE.settings(f"{directory}/mayfly.sqlite", started)
        config.write_text(SETTINGS.format(port=port, directory=directory, most=4, places=places))
        command = ("-m", "mayfly", "serve", "--config", str(config))
        with pinned(0, *command, port=port) as process:
            time.sleep(2)
            before = _ticks(process.pid)
            time.sleep(IDLE_SECONDS)
            share = (_ticks(process.pid) - before) / 100 / IDLE_SECONDS
            return memory_of(process.pid), share


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
