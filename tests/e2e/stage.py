"""A whole Mayfly on one machine: directory, keys, simulator, control planes and executors."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import msgspec

from mayfly.cli.settings import as_toml
from mayfly.simulator import Account, Settings, Simulator, generate_app_key, runner_program
from mayfly.simulator.faults import Faults
from mayfly.simulator.simulation import Dispatched
from mayfly.web.tokens import Role, new_token
from tests.e2e.declared import ACCOUNTS, DEADLINES, POOLS, SETTINGS, Places
from tests.e2e.github import GitHub, simulated
from tests.e2e.programs import Program, Ran, command, until

PRIVATE_KEY, PUBLIC_KEY = generate_app_key()
TOLD_TO_STOP = 42
SANDBOXED = 'read_only = ["{program}", "{python}"]\nlimits_required = false\nprocesses = 200\n'
LINUX = ("self-hosted", "linux")


class Stage:
    """What a test plays with; `opened` makes and ends it."""

    def __init__(
        self,
        directory: Path,
        github: GitHub,
        webhook_secret: str,
        *,
        pools: str,
        deadlines: Mapping[str, float],
        mints_per_minute: int,
        places: Callable[[str], Places] | None = None,
        intake: str = "push",
    ) -> None:
        self.directory = directory
        self.github = github
        self.webhook_secret = webhook_secret
        file = f"sqlite:///{directory}/mayfly.sqlite"
        self.places = places(file) if places else Places(store=file, bus="sql", bus_url=file)
        self.programs: list[Program] = []
        self.urls: list[str] = []
        self.address: str | None = None
        """Of what takes the webhooks instead of a control plane: a balancer, an edge reflector."""
        self._ports: dict[str, int] = {}
        self._pools = pools
        self._deadlines = "\n".join(f"{name} = {value}" for name, value in deadlines.items())
        self._mints_per_minute = mints_per_minute
        self._intake = intake
        self._program = runner_program(directory / "runner")
        self._executors = 0
        self._repositories = 0
        self.executor_token, executor = new_token(
            "e2e-executor", Role.EXECUTOR, ("linux", "gpu", "large", "small")
        )
        self.operator_token, operator = new_token("e2e-operator", Role.OPERATOR)
        self._tokens = f"{as_toml(executor)}\n\n{as_toml(operator)}"
        self.secret("app.pem", PRIVATE_KEY)
        self.secret("webhook-secret", webhook_secret)
        self.secret("executor-token", self.executor_token)
        self.secret("operator-token", self.operator_token)

    # Files

    @property
    def simulator(self) -> Simulator:
        return self.github.simulator

    @property
    def database(self) -> Path:
        return self.directory / "mayfly.sqlite"

    def secret(self, name: str, text: str) -> Path:
        path = self.directory / "secrets" / name
        path.touch(mode=0o600)
        path.write_text(text)
        return path

    def work_directories(self) -> list[Path]:
        return sorted(self.directory.glob("state*/slots/*/[wg]*-*"))

    # Processes

    async def plane(
        self,
        name: str = "plane",
        *,
        webhook_secrets: Sequence[str] = ("webhook-secret",),
        ready: bool = True,
    ) -> Program:
        """Start (again) the control plane `name`; it keeps its port, and gets the webhooks.

        It listens once this returns, unless nobody waits until it is `ready`.
        """
        port = self._ports.setdefault(name, _free_port())
        config = self.secret(
            f"{name}.toml",
            SETTINGS.format(
                directory=self.directory,
                places=self.places,
                port=port,
                api_url=self.simulator.url,
                webhook_secrets=msgspec.json.encode(
                    [str(self.directory / "secrets" / file) for file in webhook_secrets]
                ).decode(),
                mints_per_minute=self._mints_per_minute,
                intake=self._intake,
                deadlines=self._deadlines,
                tokens=self._tokens,
                pools=self._pools,
            ),
        )
        log = self.directory / "logs" / f"{name}.log"
        before = log.read_text().count("server.started") if log.exists() else 0
        program = await self._started(name, log, "serve", "--config", str(config))
        if ready:
            await program.logged("server.started", times=before + 1)
        url = f"http://127.0.0.1:{port}"
        if url not in self.urls:
            self.urls.append(url)
        self.simulator.set_webhook(f"{self.address or url}/webhooks/github")
        return program

    async def executor(
        self,
        *,
        pool: str = "linux",
        variants: Sequence[str] = (),
        plane: int = 0,
        url: str | None = None,
        state: str = "state",
        template: Path | None = None,
        jit: str = "stdin",
        driver: str = "process",
        once: bool = False,
        settings: str | None = None,
        token_in_environment: bool = False,
        ready: bool = True,
        release: str | None = None,
    ) -> Program:
        """Start an executor; it has parked once this returns, unless nobody waits for that.

        `settings` is its file, in place of one for a simulated runner.
        """
        self._executors += 1
        name = f"executor-{self._executors}"
        config = self.directory / f"{name}.toml"
        config.write_text(
            settings
            or (
                self._runner(jit, template, driver)
                if release is None
                else self._installed(release, driver)
            )
        )
        log = self.directory / "logs" / f"{name}.log"
        token = self.directory / "secrets" / "executor-token"
        arguments = [
            *("executor", "--pool", pool, "--url", url or self.urls[plane]),
            *(() if token_in_environment else ("--token-file", str(token))),
            *("--config", str(config)),
            *("--state-dir", str(self.directory / state)),
            *(word for variant in variants for word in ("--variant", variant)),
            *(["--once"] if once else []),
        ]
        environment = {"MAYFLY_TOKEN": self.executor_token} if token_in_environment else {}
        program = await self._started(name, log, *arguments, environment=environment)
        if ready:
            await program.logged("executor.ready")
        return program

    async def end_executors(self) -> None:
        """All executors are told to stop and do."""
        executors = [program for program in self.programs if program.name.startswith("executor")]
        for program in executors:
            if program.running:
                program.send(signal.SIGTERM)
        for program in executors:
            code = await program.stopped()
            assert code in {TOLD_TO_STOP, 0, -signal.SIGKILL}, f"{program.name} ended with {code}"

    async def mayfly(self, *arguments: str, token: str | None = "operator-token") -> Ran:
        """A command against the first control plane."""
        environment = {"MAYFLY_URL": self.urls[0]}
        if token is not None:
            environment["MAYFLY_TOKEN_FILE"] = str(self.directory / "secrets" / token)
        return await command(*arguments, environment=environment)

    # The control plane's API

    async def get(self, path: str, *, plane: int = 0, **params: Any) -> Any:
        return (await self.call("GET", path, plane=plane, params=params)).json()

    async def call(
        self, method: str, path: str, *, plane: int = 0, token: str | None = None, **options: Any
    ) -> httpx.Response:
        """A call that must succeed; as the operator, unless `token` says otherwise."""
        headers = {"authorization": f"Bearer {token or self.operator_token}"}
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            answer = await client.request(
                method, self.urls[plane] + path, headers=headers, **options
            )
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer

    async def claims(self, *, live: bool = True) -> list[dict[str, Any]]:
        """Claims, newest first."""
        found: list[dict[str, Any]] = await self.get("/v1/runners", live=live, limit=200)
        return found

    async def claim_in(self, state: str) -> dict[str, Any]:
        """The newest claim, once it is in `state`."""

        async def look() -> dict[str, Any] | None:
            found = await self.claims(live=False)
            return found[0] if found and found[0]["state"] == state else None

        return await until(look, f"the newest claim {state}")

    async def known(self, job_id: int, state: str) -> dict[str, Any]:
        """The job as the ledger has it, once it has reached `state`."""

        async def look() -> dict[str, Any] | None:
            async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
                answer = await client.get(
                    f"{self.urls[0]}/v1/jobs/{job_id}",
                    headers={"authorization": f"Bearer {self.operator_token}"},
                )
            newest = answer.json()[0] if answer.is_success else None
            return newest if newest and newest["state"] == state else None

        return await until(look, f"job {job_id} {state} in the ledger")

    # GitHub

    def repository(self, owner: str = "octo-org") -> str:
        """A repository no other test has touched."""
        self._repositories += 1
        name = f"repo-{self._repositories}"
        self.simulator.add_repository(owner, name)
        return name

    def dispatch(
        self,
        repository: str,
        *runs: str,
        labels: Sequence[str] = LINUX,
        owner: str = "octo-org",
        name: str = "build",
    ) -> int:
        """A workflow with one job; the job's id."""
        dispatched: Dispatched = self.simulator.dispatch(
            owner, repository, workflow(*runs, labels=labels, name=name)
        )
        (job_id,) = dispatched.job_ids
        return job_id

    def runner_of(self, job_id: int) -> str | None:
        name = self.simulator.job(job_id)["runner_name"]
        return None if name is None else str(name)

    async def idle_runner(self, *, apart_from: Sequence[str] = ()) -> str:
        """The name of a runner of ours that is online and has no job."""

        def look() -> str | None:
            for runner in self.simulator.world.actions.runners.all.values():
                ours = runner.name.startswith("e2e-") and runner.name not in apart_from
                if ours and runner.status == "online" and not runner.busy:
                    return runner.name
            return None

        return await until(look, "an idle runner of ours at GitHub")

    async def ends(self, job_id: int, conclusion: str = "success", seconds: float = 25) -> None:
        """The job has ended like this at GitHub."""
        ended = await self.simulator.wait_job(job_id, "completed", timeout=seconds)
        job = self.simulator.job(job_id)
        found = f"{job['status']} {job['conclusion']}"
        assert ended, f"job {job_id} is {found}; its log: {self.simulator.log(job_id)}"
        assert job["conclusion"] == conclusion, f"{found}: {self.simulator.log(job_id)}"

    # The end of a test

    async def quiet(self) -> None:
        """Nothing goes wrong on purpose any more, and no job of an earlier test waits."""
        self.simulator.faults = Faults()
        self.simulator.release()
        for job in list(self.simulator.world.actions.runs.jobs.values()):
            if job.status not in {"in_progress", "completed"}:
                self.simulator.cancel_job(job.id)
        assert await self.simulator.wait_deliveries(20), "deliveries are still on their way"

    def show_logs(self) -> None:
        """pytest shows them when the test has failed."""
        for program in self.programs:
            print(f"--- {program.name}", *program.lines()[-40:], sep="\n")

    def _runner(self, jit: str, template: Path | None, driver: str) -> str:
        words, sandboxed = [interpreter(), str(self._program)], driver == "sandbox"
        words += ["--jitconfig-stdin"] if jit == "stdin" else []
        return (
            f'[runner]\ncommand = {msgspec.json.encode(words).decode()}\njit = "{jit}"\n'
            "grace_seconds = 3\n"
            + (f'template = "{template}"\n' if template else "")
            + (
                SANDBOXED.format(program=self._program, python=Path(words[0]).parents[1])
                if sandboxed
                else ""
            )
            + f'[executor]\ndriver = "{driver}"\n'
        )

    def _installed(self, release: str, driver: str) -> str:
        sandboxed = "limits_required = false\nprocesses = 200\n" if driver == "sandbox" else ""
        return f'[runner]\nrelease = "{release}"\n{sandboxed}[executor]\ndriver = "{driver}"\n'

    async def _started(
        self, name: str, log: Path, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> Program:
        program = await Program.started(name, log, *arguments, environment=environment)
        self.programs.append(program)
        return program


@asynccontextmanager
async def opened(
    pools: str = POOLS,
    *,
    accounts: tuple[Account, ...] = ACCOUNTS,
    deadlines: Mapping[str, float] = DEADLINES,
    mints_per_minute: int = 180,
    rate_limit: int = 5000,
    shown: bool = True,
    places: Callable[[str], Places] | None = None,
    intake: str = "push",
) -> AsyncIterator[Stage]:
    """A stage without a process yet; afterwards every process is gone, and the directory too.

    The ends of its logs are `shown` when it closes.
    """
    secret = token_hex(32)
    settings = Settings(
        app_public_key=PUBLIC_KEY,
        webhook_secret=secret,
        accounts=accounts,
        runner_lost_after_seconds=3.0,
        rate_limit=rate_limit,
    )
    with _directory() as made:
        async with simulated(settings) as github:
            stage = Stage(
                made,
                github,
                secret,
                pools=pools,
                deadlines=deadlines,
                mints_per_minute=mints_per_minute,
                places=places,
                intake=intake,
            )
            try:
                yield stage
            finally:
                if shown:
                    stage.show_logs()
                for program in reversed(stage.programs):
                    await program.stopped()


def workflow(*runs: str, labels: Sequence[str] = LINUX, name: str = "build") -> str:
    """One job with a step for each command."""
    document = {"name": name, "jobs": {name: {"runs-on": list(labels), "steps": steps(*runs)}}}
    return msgspec.json.encode(document).decode()  # JSON is YAML


def steps(*runs: str) -> list[dict[str, str]]:
    return [{"run": run} for run in runs or ("echo hello",)]


def interpreter() -> str:
    """A Python that the jobs' user can run."""
    own = os.path.realpath(sys.executable)
    if os.geteuid() != 0:
        return own
    for candidate in (own, "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            subprocess.run(
                [candidate, "-c", ""], user="nobody", check=True, cwd="/", capture_output=True
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    raise AssertionError("no Python on this machine can be run by user nobody")


@contextmanager
def _directory() -> Iterator[Path]:
    """Not below pytest's own directory, which is closed to the user the jobs run as."""
    made = Path(tempfile.mkdtemp(prefix="mayfly-e2e-"))
    made.chmod(0o755)
    for private in ("secrets", "logs"):
        (made / private).mkdir(mode=0o700)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
