"""The App's private key and what it opens: short-lived tokens, one per installation."""

import asyncio
import re
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mayfly.github.calls import Credential
from mayfly.github.secrets import Secret
from mayfly.model.errors import InvalidSettings
from mayfly.model.jobs import InstallationId
from mayfly.ports import Clock

_BACKDATED = timedelta(seconds=60)
_LIFE = timedelta(minutes=9)
"""From now; GitHub allows ten minutes by its own clock, which may be behind ours."""
_SIGNED_ANEW_AFTER = timedelta(minutes=7)
_HEADER = {"alg": "RS256", "typ": "JWT"}
_RENEWED_BEFORE = timedelta(minutes=5)
_VAULT_KEY = re.compile(r"https://[A-Za-z0-9.-]+(:\d+)?/keys/[A-Za-z0-9-]+/[A-Za-z0-9]+")
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


class VaultKey(msgspec.Struct, frozen=True, kw_only=True):
    """The App's private key is in Azure Key Vault, which signs with it and never gives it away."""

    url: str
    """`https://NAME.vault.azure.net/keys/KEY/VERSION`."""


def vault_key(url: str) -> VaultKey:
    """The key at `url`; InvalidSettings when that is no address of a key."""
    if not _VAULT_KEY.fullmatch(url):
        raise InvalidSettings(
            "[github] key_vault_key is not the address of a key; use its key identifier, as in "
            "https://NAME.vault.azure.net/keys/KEY/VERSION"
        )
    return VaultKey(url=url)


class Signer(Protocol):
    """Whoever has the App's private key."""

    async def sign(self, text: bytes) -> bytes:
        """The RS256 signature of `text`. GitHubRefused or GitHubUnreachable when it has none."""


class LocalKey:
    """The key in this process; it stays in here."""

    def __init__(self, pem: Secret) -> None:
        self._key = rsa_key(pem, "the private key")

    async def sign(self, text: bytes) -> bytes:
        return self._key.sign(text, PKCS1v15(), SHA256())


class AppKey:
    """Signs the App's own requests: a JWT is kept for most of its life, so that signing is rare."""

    def __init__(self, app_id: str, signer: Signer, clock: Clock) -> None:
        self.app_id = app_id
        self._signer = signer
        self._clock = clock
        self._kept: Credential | None = None
        self._signed_at = clock.now()
        self._signing = asyncio.Lock()

    async def credential(self) -> Credential:
        """A JWT that is good for 2 minutes at least; however many wait, it is signed once."""
        async with self._signing:
            if self._kept is None or not timedelta(0) <= self._age() < _SIGNED_ANEW_AFTER:
                self._kept = await self._signed()
            return self._kept

    def drop(self, credential: Credential) -> None:
        """Forget this JWT, which GitHub does not accept, unless another has taken its place."""
        if self._kept is credential:
            self._kept = None

    def _age(self) -> timedelta:
        """Below zero where the clock was put back, and the JWT may not be good yet."""
        return self._clock.now() - self._signed_at

    async def _signed(self) -> Credential:
        now = self._clock.now()
        claims = {
            "iss": self.app_id,
            "iat": int((now - _BACKDATED).timestamp()),
            "exp": int((now + _LIFE).timestamp()),
        }
        text = b".".join(_segment(msgspec.json.encode(part)) for part in (_HEADER, claims))
        signature = await self._signer.sign(text)
        self._signed_at = now
        return Credential(Secret(b".".join((text, _segment(signature))).decode()), None)


def _segment(part: bytes) -> bytes:
    """A part of a JWT (RFC 7515)."""
    return urlsafe_b64encode(part).rstrip(b"=")


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
