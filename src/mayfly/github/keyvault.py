"""Signing in Azure Key Vault: the App's private key is in no process of ours."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
)
from azure.identity.aio import DefaultAzureCredential
from azure.keyvault.keys.crypto import SignatureAlgorithm
from azure.keyvault.keys.crypto.aio import CryptographyClient

from mayfly.model.errors import (
    GitHubRefused,
    GitHubUnreachable,
    MayflyError,
    RefusalKind,
)

PATIENCE: Final = timedelta(seconds=10)
"""For one signature, the token for it included; a JWT is signed every 7 minutes."""
_RIGHT: Final = "give Mayfly's identity the role Key Vault Crypto User on the key"
_NEEDED: Final = {
    400: "{place} cannot sign RS256; import the App's .pem as an RSA key that may sign",
    401: "the vault does not accept our identity for {place}; is it in the vault's tenant?",
    403: "no right to sign with {place}; {right}",
    404: "there is no such thing as {place}; recover it, or name the version that is there",
}
_PAUSE: Final = timedelta(seconds=10)
"""After a vault that was busy has not said for how long."""

# Whatever goes wrong is raised as one of our errors.
for _name in ("azure.identity", "azure.keyvault", "azure.core"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class VaultSigner:
    """Signs RS256 by `keys/sign`; the vault sees the digest, and we never the key."""

    def __init__(self, client: CryptographyClient, url: str) -> None:
        self._client = client
        self._place = f"the key {url}"

    async def sign(self, text: bytes) -> bytes:
        """GitHubRefused when somebody has to act, GitHubUnreachable when it may work later."""
        digest = sha256(text).digest()
        try:
            async with asyncio.timeout(PATIENCE.total_seconds()):
                signed = await self._client.sign(SignatureAlgorithm.rs256, digest)
        except (AzureError, TimeoutError, ValueError) as error:
            raise _ours(error, self._place) from error
        return signed.signature


@asynccontextmanager
async def open_signer(
    url: str,
    credential: AsyncTokenCredential | None = None,
    **options: Any,  # noqa: ANN401 - the SDK's own, for a vault that is not Azure's
) -> AsyncIterator[VaultSigner]:
    """By the managed identity, unless another credential is given; nothing is asked of it yet."""
    async with AsyncExitStack() as stack:
        given = credential
        if given is None:
            given = DefaultAzureCredential()
            stack.push_async_callback(given.close)
        client = CryptographyClient(url, given, retry_total=0, **options)
        yield VaultSigner(await stack.enter_async_context(client), url)


def _ours(error: Exception, place: str) -> MayflyError:
    """The one place where the SDK's errors become ours; their own texts may be a page long."""
    match error:
        case HttpResponseError(status_code=int(status)):
            return _answered(error, status, place)
        case ClientAuthenticationError():
            return _refused(
                f"no managed identity to sign with {place}; give this machine one, or sign in "
                "with `az login`"
            )
        case ValueError():
            return _refused(f"{place} is outside of the time it may be used in; renew it")
        case TimeoutError():
            seconds = PATIENCE.total_seconds()
            return GitHubUnreachable(f"{place} did not sign within {seconds:.0f} s")
        case _:
            kind = type(error).__name__
            return GitHubUnreachable(f"the vault of {place} cannot be reached ({kind})")


def _answered(error: HttpResponseError, status: int, place: str) -> MayflyError:
    if status == 403 and "ForbiddenByFirewall" in _code(error):
        return GitHubUnreachable(
            f"the firewall of the vault keeps this machine from {place}; add its address there, "
            "or reach the vault through a private endpoint"
        )
    if status == 403 and "KeyDisabled" in _code(error):
        return _refused(f"{place} is disabled; enable it, or name another version of it")
    if status in _NEEDED:
        return _refused(_NEEDED[status].format(place=place, right=_RIGHT))
    retry_at = _retry_at(error) if status == 429 else None
    return GitHubUnreachable(f"the vault answered HTTP {status} for {place}", retry_at=retry_at)


def _refused(sentence: str) -> GitHubRefused:
    return GitHubRefused(RefusalKind.BAD_KEY, f"the App's requests cannot be signed: {sentence}")


def _code(error: HttpResponseError) -> str:
    """What the vault calls it; inner codes stand in the message of the SDK alone."""
    return f"{getattr(error.error, 'code', '')} {error.message}"


def _retry_at(error: HttpResponseError) -> datetime:
    headers: Any = getattr(error.response, "headers", {})
    said = headers.get("Retry-After", "")
    seconds = int(said) if said.isdecimal() and len(said) < 6 else _PAUSE.total_seconds()
    return datetime.now(UTC) + timedelta(seconds=seconds)
