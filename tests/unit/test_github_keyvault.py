"""Signing in Azure Key Vault: the real client, over TLS, against a stand-in of `keys/sign`."""

import asyncio
import ssl
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

import jwt
import pytest
from aiohttp import web
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mayfly.cli.settings import load
from mayfly.engine.clock import SystemClock
from mayfly.github.keyvault import VaultSigner, open_signer
from mayfly.github.tokens import AppKey, VaultKey, vault_key
from mayfly.model.errors import (
    GitHubRefused,
    GitHubUnreachable,
    InvalidSettings,
    MayflyError,
    RefusalKind,
)

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
VERSION = "0123456789abcdef0123456789abcdef"
IDENTIFIER = f"https://my-vault.vault.azure.net/keys/app/{VERSION}"
BEARER = "a-token-of-the-managed-identity"


class Identity:
    """A credential that always has the same token, or none."""

    def __init__(self, *, known: bool = True) -> None:
        self._known = known

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        if not self._known:
            raise ClientAuthenticationError("no managed identity endpoint found")
        return AccessToken(BEARER, int(datetime.now(UTC).timestamp()) + 3600)

    async def close(self) -> None: ...
    async def __aenter__(self) -> "Identity":
        return self

    async def __aexit__(self, *_: object) -> None: ...


class Vault:
    """Challenges, then signs; or answers what a test has laid down."""

    def __init__(self) -> None:
        self.url = ""
        self.signed = 0
        self.answer: tuple[int, str] | None = None
        self.headers: dict[str, str] = {}

    async def __call__(self, request: web.Request) -> web.Response:
        if request.headers.get("authorization") != f"Bearer {BEARER}":
            challenge = 'Bearer authorization="https://login.example/t", resource="https://v"'
            return web.json_response({}, status=401, headers={"WWW-Authenticate": challenge})
        if request.method == "GET":  # the role has sign, and not get
            return _error(403, "Forbidden")
        if self.answer is not None:
            return _error(*self.answer, self.headers)
        order = await request.json()
        assert order["alg"] == "RS256"
        assert request.path == f"/keys/app/{VERSION}/sign"
        digest = urlsafe_b64decode(order["value"] + "==")
        signature = KEY.sign(digest, padding.PKCS1v15(), utils.Prehashed(SHA256()))
        self.signed += 1
        value = urlsafe_b64encode(signature).rstrip(b"=").decode()
        return web.json_response({"kid": self.url, "value": value})


def _error(status: int, code: str, headers: dict[str, str] | None = None) -> web.Response:
    inner = {"code": code, "message": f"({code}) a page of text", "innererror": {"code": code}}
    return web.json_response({"error": inner}, status=status, headers=headers)


@asynccontextmanager
async def vault(folder: Path) -> AsyncIterator[Vault]:
    standing_in = Vault()
    runner = web.ServerRunner(web.Server(cast("Any", standing_in)))
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate(folder), folder / "key.pem")
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    host, port = runner.addresses[0][:2]
    standing_in.url = f"https://{host}:{port}/keys/app/{VERSION}"
    try:
        yield standing_in
    finally:
        await runner.cleanup()


def certificate(folder: Path) -> Path:
    """For 127.0.0.1, signed by itself."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(KEY, SHA256())
    )
    pem = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(pem)
    (folder / "cert.pem").write_bytes(made.public_bytes(Encoding.PEM))
    return folder / "cert.pem"


@asynccontextmanager
async def signer(
    url: str, folder: Path, identity: Identity | None = None
) -> AsyncIterator[VaultSigner]:
    given: Any = identity or Identity()
    async with open_signer(
        url,
        given,
        connection_verify=str(folder / "cert.pem"),
        verify_challenge_resource=False,
    ) as opened:
        yield opened


async def test_the_vaults_signature_is_a_jwt_github_accepts_and_is_asked_for_once(tmp_path: Path):
    async with vault(tmp_path) as there, signer(there.url, tmp_path) as opened:
        key = AppKey("Iv23liTest", opened, SystemClock())
        made = await asyncio.gather(*(key.credential() for _ in range(50)))
        text = made[0].token.reveal()
        assert jwt.decode(text, KEY.public_key(), algorithms=["RS256"])["iss"] == "Iv23liTest"
        assert there.signed == 1


@pytest.mark.parametrize(
    ("answer", "kind", "sentence"),
    [
        ((403, "Forbidden"), GitHubRefused, "role Key Vault Crypto User"),
        ((403, "ForbiddenByFirewall"), GitHubUnreachable, "add its address"),
        ((403, "KeyDisabled"), GitHubRefused, "is disabled; enable it"),
        ((404, "KeyNotFound"), GitHubRefused, "recover it"),
        ((400, "BadParameter"), GitHubRefused, "cannot sign RS256"),
        ((429, "Throttled"), GitHubUnreachable, "HTTP 429"),
        ((503, "ServiceUnavailable"), GitHubUnreachable, "HTTP 503"),
    ],
)
async def test_what_the_vault_says_becomes_a_sentence(
    tmp_path: Path, answer: tuple[int, str], kind: type[MayflyError], sentence: str
):
    async with vault(tmp_path) as there, signer(there.url, tmp_path) as opened:
        there.answer, there.headers = answer, {"Retry-After": "30"}
        with pytest.raises(kind, match=sentence) as raised:
            await opened.sign(b"text")
        assert "a page of text" not in str(raised.value)
        assert BEARER not in str(raised.value)
        if isinstance(raised.value, GitHubRefused):
            assert raised.value.kind is RefusalKind.BAD_KEY
        elif answer[0] == 429:
            assert isinstance(raised.value, GitHubUnreachable)
            assert raised.value.retry_at is not None
            assert raised.value.retry_at > datetime.now(UTC) + timedelta(seconds=20)
        there.answer = None
        assert await opened.sign(b"text"), "it works once that is put right"


async def test_a_vault_that_is_away_may_answer_later(tmp_path: Path):
    async with vault(tmp_path) as there:
        url = there.url
    async with signer(url, tmp_path) as opened:
        with pytest.raises(GitHubUnreachable, match="cannot be reached"):
            await opened.sign(b"text")


async def test_a_machine_without_an_identity_is_said(tmp_path: Path):
    unknown = Identity(known=False)
    async with vault(tmp_path) as there, signer(there.url, tmp_path, unknown) as opened:
        with pytest.raises(GitHubRefused, match="no managed identity"):
            await opened.sign(b"text")


MAYFLY = f"""\
[github]
app_id = "4711"
key_vault_key = "{IDENTIFIER}"
webhook_secret_files = ["secret"]

[[pools]]
name = "linux"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("of a test")
    path = tmp_path / "mayfly.toml"
    path.write_text(MAYFLY.replace('"secret"', f'"{tmp_path}/secret"'))
    return path


def test_the_settings_name_the_key_and_no_file(file: Path):
    assert load(file, {}).github.private_key == VaultKey(url=IDENTIFIER)


def test_a_key_in_the_vault_and_one_here_are_one_too_many(file: Path):
    with pytest.raises(InvalidSettings, match="given twice"):
        load(file, {"MAYFLY_GITHUB_PRIVATE_KEY": "a pem"})


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://my-vault.vault.azure.net/keys/app/1",
        "https://my-vault.vault.azure.net/keys/app",
        "https://my-vault.vault.azure.net/secrets/app/1",
        "https://user:password@my-vault.vault.azure.net/keys/app/1",
    ],
)
def test_what_is_no_key_identifier_is_refused_without_showing_it(url: str):
    with pytest.raises(InvalidSettings, match="not the address of a key") as raised:
        vault_key(url)
    assert "password" not in str(raised.value)
