"""What an end-to-end test declares: accounts at GitHub, pools, rules, short deadlines."""

from collections.abc import Mapping
from typing import NamedTuple

from mayfly.simulator import Account


class Places(NamedTuple):
    """Where a control plane keeps its ledger and its runner requests."""

    store: str
    bus: str
    bus_url: str


ACCOUNTS = (
    Account(login="octo-org", type="Organization", repositories=("octo-repo",)),
    Account(login="mona", type="User", repositories=("tools", "secret-plans")),
)
POOLS = """
[[pools]]
name = "linux"
max = 4

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
"""
DEADLINES: Mapping[str, float] = {
    "turn_seconds": 0.2,
    "heartbeat_seconds": 0.5,
    "silent_seconds": 3,
    "surplus_seconds": 1,
    "proof_seconds": 1,
    "look_again_seconds": 1,
}
SETTINGS = """\
runner_prefix = "e2e"

[server]
port = {port}

[store]
url = "{places.store}"

[bus]
backend = "{places.bus}"
url = "{places.bus_url}"

[github]
app_id = "4711"
api_url = "{api_url}"
private_key_file = "{directory}/secrets/app.pem"
webhook_secret_files = {webhook_secrets}
mints_per_minute = {mints_per_minute}
intake = "{intake}"

[deadlines]
{deadlines}

[log]
level = "debug"

{tokens}

{pools}
"""
