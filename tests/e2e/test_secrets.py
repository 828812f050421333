"""One whole run with planted secrets: what a job, a log, a process or the database shows of them.

The simulated runner, like GitHub's, gets its JIT config on stdin or as the three files that
GitHub's own `config.sh` would have left in its directory. GitHub's runner keeps these files while
it works, as the user its jobs run as: with `jit = "files"` a job can read the credential of its own
one-job runner, here as with any self-hosted runner. It is of no use to it once the runner is busy.
So files a job can read are searched with `jit = "stdin"` only.
"""

import os

import msgspec
import pytest

from tests.e2e.planted import contents, found_in, planted, watched_processes
from tests.e2e.stage import Stage, steps

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

# Everything the job can see is printed, so that the test can look for what the job cannot know.
SEE = """
readable() { tr -c '[:print:]' '\\n' | head -c 4000000; }
echo "## who I am"; id -un
echo "## environment"; env
echo "## other environments"; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | readable
echo "## arguments"; cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | readable
echo in-my-home-canary >"$HOME/mine"
echo "## files"; find "$STAGE" "$HOME" /tmp /var/lib/mayfly -xdev -type f -readable \\
  -newer "$STAGE/marker" -size -400k -exec cat {} + 2>/dev/null | readable
echo "## the end"
"""


def job(stage: Stage) -> str:
    first = {**steps(SEE)[0], "env": {"STAGE": str(stage.directory), "CANARY": "env-canary"}}
    build = {"runs-on": ["self-hosted", "linux"], "steps": [first]}
    return msgspec.json.encode({"name": "spy", "jobs": {"spy": build}}).decode()


@pytest.mark.parametrize("jit", ["stdin", "files"])
async def test_no_secret_is_where_a_job_or_a_reader_of_logs_can_see_it(own_stage: Stage, jit: str):
    if os.geteuid() != 0:
        pytest.skip("needs root, because its jobs run as another user")
    stage = own_stage
    await stage.plane()
    (stage.directory / "marker").touch()
    canary = stage.directory / "readable-by-all"
    canary.write_text("file-canary")
    async with watched_processes() as processes:
        await stage.executor(jit=jit)
        (spying,) = stage.simulator.dispatch("octo-org", "octo-repo", job(stage)).job_ids
        await stage.ends(spying, seconds=40)
        await stage.mayfly("jobs", "explain", str(spying))
    saw = stage.simulator.log(spying)
    seen = "\n".join(saw).encode() + "".join(saw).encode()  # long lines come in pieces
    secrets = planted(stage)

    for proof in (b"nobody", b"env-canary", b"file-canary", b"in-my-home-canary", b"--token-file"):
        assert proof in seen, "the job could look around"
    assert b"## the end" in seen
    if jit == "stdin":
        assert found_in(secrets, seen) == [], "seen by the job"
    environment = seen.partition(b"## arguments")[0]
    assert found_in(secrets, environment) == [], "in an environment the job can read"

    arguments = b"\n".join(processes.arguments)
    assert b"--token-file" in arguments
    assert b"keeper.py" in arguments
    assert found_in(secrets, arguments) == [], "in the arguments of a process"
    environments = b"\n".join(processes.environments)
    assert b"MAYFLY_TOKEN_FILE" in environments
    assert found_in(secrets, environments) == [], "in the environment of a process"

    logs = contents((stage.directory / "logs").iterdir())
    assert b"runner.registered" in logs
    assert found_in(secrets, logs) == [], "in a log"
    files = list(stage.directory.glob("mayfly.sqlite*"))
    assert [path.name for path in files if path.name.endswith("-wal")], "the log of SQLite, too"
    database = contents(files)
    assert b"octo-repo" in database
    assert found_in(secrets, database) == [], "in the database"


async def test_secrets_given_by_the_environment_stay_in_the_process_they_were_given_to(
    own_stage: Stage,
):
    """An executor's token in MAYFLY_TOKEN is the case a service manager makes."""
    if os.geteuid() != 0:
        pytest.skip("needs root, because its jobs run as another user")
    stage = own_stage
    await stage.plane()
    await stage.executor(token_in_environment=True)
    async with watched_processes() as processes:
        (spying,) = stage.simulator.dispatch("octo-org", "octo-repo", job(stage)).job_ids
        await stage.ends(spying, seconds=40)
    holders = [env for env in processes.environments if stage.executor_token.encode() in env]
    assert len(holders) == 1, "the executor's own, which only root can read"
    seen = "\n".join(stage.simulator.log(spying)).encode()
    assert b"env-canary" in seen
    assert stage.executor_token.encode() not in seen
