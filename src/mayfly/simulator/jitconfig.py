"""The JIT config: three files in a blob, as GitHub hands them to a runner."""

from __future__ import annotations

import base64
import json
import secrets

from mayfly.simulator.runners import Runner, Session


def encode(runner: Runner, session: Session, base: str) -> str:
    """base64 of a JSON object that maps file names to their base64 contents."""
    files = {
        ".runner": _settings(runner, base),
        ".credentials": _credentials(runner, session, base),
        ".credentials_rsaparams": _key(),
    }
    return _base64(json.dumps({name: _base64(json.dumps(body)) for name, body in files.items()}))


def _settings(runner: Runner, base: str) -> dict[str, str]:
    path = "/".join(part for part in (runner.scope.owner, runner.scope.repo) if part)
    # Third-party runners insist on strings here, numbers and booleans too.
    return {
        "AgentId": str(runner.id),
        "AgentName": runner.name,
        "PoolId": str(runner.group_id),
        "PoolName": "Default",
        "DisableUpdate": "True",
        "Ephemeral": str(runner.ephemeral),
        "ServerUrl": f"{base}/_runner/",
        "GitHubUrl": f"{base}/{path}",
        "WorkFolder": runner.work_folder,
    }


def _credentials(runner: Runner, session: Session, base: str) -> dict[str, object]:
    return {
        "Scheme": "OAuth",
        "Data": {
            "ClientId": f"00000000-0000-4000-8000-{runner.id:012d}",
            "AuthorizationUrl": f"{base}/_runner/token",
            "RequireFipsCryptography": "False",
            # GitHub has the runner sign with the key below; ours shows this secret.
            "Token": session.registration,
        },
    }


def _key() -> dict[str, str]:
    sizes = {"d": 256, "dp": 128, "dq": 128, "inverseQ": 128, "modulus": 256, "p": 128, "q": 128}
    numbers = {n: base64.b64encode(secrets.token_bytes(size)).decode() for n, size in sizes.items()}
    return numbers | {"exponent": "AQAB"}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
