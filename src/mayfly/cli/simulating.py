"""Running the simulator in the foreground, with a key and a secret the control plane can read."""

from pathlib import Path
from secrets import token_hex
from typing import Literal

from cryptography.hazmat.primitives import serialization

from mayfly.cli.environment import read_secret
from mayfly.github.tokens import read_key, rsa_key
from mayfly.model.errors import InvalidSettings
from mayfly.simulator import Account, Refusal, Settings, generate_app_key, run


def simulate(
    *,
    webhook_url: str | None,
    port: int,
    app_key: Path,
    secret_file: Path,
    workflows: tuple[Path, ...],
    owner: str,
    repositories: tuple[str, ...],
    runner_flow: Literal["v1", "v2"],
    runner_encryption: Literal["sha1", "sha256", "plain"],
) -> None:
    """Until interrupted. Files that are missing are made, readable by their owner only."""
    for path in workflows:
        if not path.is_file():
            raise InvalidSettings(f"there is no workflow {path}; --workflow takes a YAML file")
    if not app_key.exists():
        _write(app_key, generate_app_key()[0])
    if not secret_file.exists():
        _write(secret_file, token_hex(32))
    settings = Settings(
        port=port,
        app_public_key=_public(app_key),
        webhook_url=webhook_url,
        webhook_secret=read_secret(secret_file, "the webhook's secret"),
        accounts=(Account(login=owner, repositories=repositories),),
        workflows=tuple(str(path) for path in workflows),
        runner_flow=runner_flow,
        runner_encryption=runner_encryption,
    )
    try:
        run(settings)
    except OSError as error:
        raise InvalidSettings(
            f"the simulator cannot listen on port {port}: {error.strerror}; give another --port"
        ) from error
    except Refusal as refusal:
        reason = " ".join(str(refusal).split())
        raise InvalidSettings(f"a workflow cannot be dispatched: {reason}") from refusal


def _public(path: Path) -> str:
    key = rsa_key(read_key(path, None), str(path)).public_key()
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def _write(path: Path, text: str) -> None:
    try:
        path.touch(mode=0o600)
        path.write_text(text)
    except OSError as error:
        raise InvalidSettings(f"cannot write {path}: {error.strerror}") from error
