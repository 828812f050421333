"""The simulator as a server: what it serves, how it starts and ends."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys

import httpx

from mayfly.simulator import Settings, app_routes, manifest_routes, run_routes, runner_routes, serve
from mayfly.simulator.runners import Scope

from .openapi import operations


def test_every_operation_github_describes_is_served() -> None:
    served = {
        (str(method), re.sub(r":\w+}", "}", path))
        for handler in (
            *app_routes.ROUTES,
            *manifest_routes.ROUTES,
            *run_routes.ROUTES,
            *runner_routes.ROUTES,
        )
        for path in handler.paths
        for method in handler.http_methods
    }
    described = {(method, _spelt(path)) for method, path in operations()}
    assert described - {(m, _spelt(p)) for m, p in served} == set()


def _spelt(path: str) -> str:
    """Placeholders without their names."""
    return re.sub(r"{\w+}", "{}", path)


async def test_it_lives_in_somebody_elses_loop_and_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    async with serve() as sim, httpx.AsyncClient() as http:
        assert signal.getsignal(signal.SIGTERM) is before
        assert (await http.get(f"{sim.url}/meta")).status_code == 200


async def test_two_live_side_by_side() -> None:
    async with serve(Settings()) as one, serve(Settings()) as two:
        assert one.url != two.url
        one.add_repository("octo-org", "only-here")
        assert ("octo-org", "only-here") not in two.world.accounts.repositories


async def test_it_ends_at_once_though_runners_wait() -> None:
    async with serve(Settings()) as sim:
        made, session = sim.world.actions.runners.register(
            Scope(owner="octo-org"),
            "one",
            ("a",),
            sim.world.now(),
        )
        assert made.status == "offline"
        async with httpx.AsyncClient(base_url=f"{sim.url}/_runner", timeout=20) as http:
            opened = await http.post(
                "/session", headers={"authorization": f"Bearer {session.registration}"}
            )
            token = opened.json()["session"]
            poll = asyncio.create_task(
                http.get("/message", headers={"authorization": f"Bearer {token}"})
            )
            assert await sim.world.wait(lambda: session.polls == 1, 5)
            async with asyncio.timeout(30):
                await sim.world.close()
                assert (await poll).status_code == 404


async def test_it_runs_as_a_program_until_it_is_told_to_stop() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from mayfly.simulator import Settings, run; run(Settings())",
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(20):
        line = (await process.stdout.readline()).decode()
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"{line.split()[-1]}/meta")
        process.terminate()
        await process.communicate()
    assert (answer.status_code, process.returncode) == (200, 0)
