"""The App's private key and what it opens: short-lived tokens, one per installation."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mayfly.github.calls import Credential
from mayfly.github.secrets import Secret
from mayfly.model.errors import InvalidSettings
from mayfly.model.jobs import InstallationId
from mayfly.ports import Clock

_BACKDATED = timedelta(seconds=60)
_LIFE = timedelta(minutes=9)
"""From now; GitHub allows ten minutes by its own clock, which may be behind ours."""
_RENEWED_BEFORE = timedelta(minutes=5)
_LARGEST_KEY = 64 * 1024  # bytes; a key is about 2 KB, and a mistaken path may never end


def read_key(
    path: Path | None, env_pem: str | None, *, variable: str = "MAYFLY_GITHUB_PRIVATE_KEY"
) -> Secret:
    """The App's private key from a file or from the value of the environment variable `variable`.

    InvalidSettings names the file or the variable, never what is in it.
    """
    if path is not None and env_pem is not None:
        raise InvalidSettings(
            f"the App's private key is given twice, as {path} and in {variable}; remove one"
        )
    if path is not None:
        return _checked(_contents(path), str(path))
    if env_pem is None:
        raise InvalidSettings(
            f"the App's private key is missing; name its file in mayfly.toml or set {variable}"
        )
    # Many tools cannot keep line breaks in a variable and write them as backslash and n.
    return _checked(env_pem.replace("\\n", "\n"), f"environment variable {variable}")


def _contents(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST_KEY).decode("ascii", errors="replace")
    except OSError as error:
        raise InvalidSettings(
            f"cannot read the App's private key {path}: {error.strerror or error}"
        ) from error


def _checked(pem: str, where: str) -> Secret:
    if not pem.strip():
        raise InvalidSettings(f"{where} is empty; put the App's private key (a .pem file) there")
    rsa_key(Secret(pem), where)
    return Secret(pem)


def rsa_key(pem: Secret, where: str) -> RSAPrivateKey:
    """The key itself; InvalidSettings, naming `where`, when it is not an RSA private key."""
    try:
        key = load_pem_private_key(pem.reveal().encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The cause stays behind: an error of a parser may show what it parsed.
        raise _no_key(pem, where) from None
    if not isinstance(key, RSAPrivateKey):
        raise _no_key(pem, where)
    return key


def _no_key(pem: Secret, where: str) -> InvalidSettings:
    text = pem.reveal()
    hint = "it is not in PEM format"
    if "PUBLIC KEY" in text or "CERTIFICATE" in text:
        hint = "it is a public key or a certificate"
    elif "ENCRYPTED" in text:
        hint = "it is encrypted with a passphrase"
    elif "PRIVATE KEY" in text:
        hint = "it is damaged, or not an RSA key"
    return InvalidSettings(
        f"{where} does not hold a GitHub App's private key: {hint}; "
        "create one in the App's settings under Private keys, and use the file as it is"
    )


class AppKey:
    """Signs the App's own requests; the key stays in here."""

    def __init__(self, app_id: str, pem: Secret, clock: Clock) -> None:
        self.app_id = app_id
        self._key = rsa_key(pem, "the private key")
        self._clock = clock

    def credential(self) -> Credential:
        """A fresh JWT, good for 9 minutes."""
        now = self._clock.now()
        claims = {
            "iss": self.app_id,
            "iat": int((now - _BACKDATED).timestamp()),
            "exp": int((now + _LIFE).timestamp()),
        }
        return Credential(Secret(jwt.encode(claims, self._key, algorithm="RS256")), None)


class InstallationToken(NamedTuple):
    """What an installation's requests are made with."""

    credential: Credential
    expires_at: datetime


class InstallationTokens:
    """Tokens kept until 5 minutes before they end; each is fetched once, however many wait."""

    def __init__(
        self, fetch: Callable[[InstallationId], Awaitable[InstallationToken]], clock: Clock
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._kept: dict[InstallationId, InstallationToken] = {}
        self._under_way: dict[InstallationId, asyncio.Task[InstallationToken]] = {}

    async def get(self, installation: InstallationId) -> Credential:
        """The token of `installation`; raises what fetching it raised."""
        kept = self._kept.get(installation)
        if kept is not None and kept.expires_at - _RENEWED_BEFORE > self._clock.now():
            return kept.credential
        task = self._under_way.get(installation)
        if task is None:
            task = asyncio.create_task(self._renew(installation))
            self._under_way[installation] = task
            task.add_done_callback(_retrieved)
        # A caller who gives up must not take the token away from the others.
        return (await asyncio.shield(task)).credential

    def drop(self, installation: InstallationId, credential: Credential) -> None:
        """Forget this token, unless another has taken its place."""
        kept = self._kept.get(installation)
        if kept is not None and kept.credential is credential:
            del self._kept[installation]

    async def close(self) -> None:
        """No request is under way any more."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _renew(self, installation: InstallationId) -> InstallationToken:
        try:
            self._kept[installation] = token = await self._fetch(installation)
            return token
        finally:
            del self._under_way[installation]


def _retrieved(task: asyncio.Task[InstallationToken]) -> None:
    # Everybody who waited may have given up; then nobody else takes note of the exception.
    if not task.cancelled():
        task.exception()
