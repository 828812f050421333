"""A configure program, as github-act-runner's: it registers a runner and leaves `settings.json`.

Standard library only, because it runs as a user who can read nothing of ours.
`configure_program.py URL NAME LABELS KEY [HOLD]` with the registration token on standard input; KEY
is a file with the runner's key, and HOLD one that it waits to be gone once it has registered.
"""

import json
import os
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


def main(url: str, name: str, labels: str, key_file: str, hold: str = "") -> int:
    os.umask(0o077)
    token = sys.stdin.readline().strip()
    key = json.loads(Path(key_file).read_text())
    parts = urlsplit(url)
    door = f"{parts.scheme}://{parts.netloc}/api/v3/actions/runner-registration"
    asked = {"url": url, "runner_event": "register"}
    traded = _post(door, asked, f"RemoteAuth {token}")
    agent = {
        "Authorization": {"PublicKey": {"Exponent": key["exponent"], "Modulus": key["modulus"]}},
        "Labels": [{"ID": 0, "Name": label, "Type": "user"} for label in labels.split(",")],
        "MaxParallelism": 1,
        "ID": 0,
        "Name": name,
        "Version": "3.0.0",
        "Ephemeral": True,
        "DisableUpdate": True,
    }
    made = _post(f"{traded['url']}_apis/agents/1", agent, f"Bearer {traded['token']}")
    settings = {"agent": made, "server_url": traded["url"], "pem": key["pem"]}
    Path("settings.json").write_text(json.dumps(settings))
    while hold and Path(hold).exists():
        time.sleep(0.02)
    return 0


def _post(url: str, body: dict[str, Any], authorization: str) -> dict[str, Any]:
    request = urllib.request.Request(
        url,
        json.dumps(body).encode(),
        {"Authorization": authorization, "Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=20) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    return found


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
