"""What the demo runs: eight workflow jobs of three repositories and two owners."""

from typing import NamedTuple

from mayfly.simulator import Account


class Part(NamedTuple):
    """One workflow job and how it must end."""

    owner: str
    repository: str
    job: str
    labels: tuple[str, ...]
    commands: tuple[str, ...]
    decision: str
    result: str | None

    @property
    def workflow(self) -> str:
        """The workflow's YAML."""
        steps = "".join(f"      - run: {command}\n" for command in self.commands)
        return (
            f"name: {self.job}\non: push\njobs:\n  {self.job}:\n"
            f"    runs-on: [{', '.join(self.labels)}]\n    steps:\n{steps}"
        )


ACCOUNTS = (
    Account(login="octo-org", type="Organization", repositories=("webshop", "handbook")),
    Account(login="mona", type="User", repositories=("tools",)),
)

LINUX = ("self-hosted", "linux")
SCRIPT = (
    Part("octo-org", "webshop", "build", LINUX, ("echo building; sleep 1",), "admitted", "success"),
    Part(
        "octo-org",
        "webshop",
        "test",
        LINUX,
        ("seq 3 | sed 's/^/test /'", "echo all tests passed"),
        "admitted",
        "success",
    ),
    Part(
        "octo-org",
        "webshop",
        "audit",
        LINUX,
        ("echo this one fails on purpose; exit 1",),
        "admitted",
        "failure",
    ),
    Part(
        "octo-org",
        "handbook",
        "render",
        LINUX,
        ("mkdir site && echo '<h1>Handbook</h1>' > site/index.html", "test -s site/index.html"),
        "admitted",
        "success",
    ),
    Part("mona", "tools", "lint", LINUX, ("echo no complaints",), "admitted", "success"),
    Part(
        "mona",
        "tools",
        "package",
        LINUX,
        ("echo hello > hello.txt && tar -cf tools.tar hello.txt && tar -tf tools.tar",),
        "admitted",
        "success",
    ),
    Part(
        "mona",
        "tools",
        "train",
        ("self-hosted", "gpu"),
        ("echo never runs",),
        "not_allowed",
        None,
    ),
    Part(
        "octo-org",
        "handbook",
        "typo",
        ("self-hosted", "linuks"),
        ("echo never runs",),
        "unknown_pool",
        None,
    ),
)

FROM_ZERO = tuple(
    Part("octo-org", "webshop", f"shard-{number}", LINUX, ("sleep 1",), "admitted", "success")
    for number in range(1, 13)
)
"""Twelve jobs that find no executor."""

LAUNCHED = """\
launcher = "here"
start_deadline_seconds = 60
"""
LAUNCHERS = """\

[launchers.here]
backend = "process"
config = "{directory}/executor.toml"
state_dir = "{directory}/launches"
"""
POOLS = ("linux", "gpu")
SETTINGS = """\
runner_prefix = "demo"

[server]
port = {port}
url = "http://127.0.0.1:{port}"

[store]
{store}

[bus]
{bus}

[github]
app_id = "{app_id}"
api_url = "{api_url}"
private_key_file = "{directory}/secrets/app.pem"
webhook_secret_files = ["{directory}/secrets/webhook-secret"]

[deadlines]
turn_seconds = 1
heartbeat_seconds = 5
proof_seconds = 5

[[pools]]
name = "linux"
max = 4
{launched}
[[pools]]
name = "gpu"
max = 1

[[access]]
owner = "octo-org"
pool = "linux"

[[access]]
owner = "mona"
repository = "tools"
pool = "linux"

{tokens}
"""

RUNNER = """\
[runner]
command = [{command}]
jit = "stdin"
"""
