"""The App's key, read without ever showing it, and tokens fetched once for all who wait."""

import asyncio
import copy
import pickle
from datetime import UTC, datetime, timedelta

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from mayfly.github.calls import Credential
from mayfly.github.secrets import Secret
from mayfly.github.tokens import AppKey, InstallationToken, InstallationTokens, LocalKey, read_key
from mayfly.model.errors import GitHubUnreachable, InvalidSettings
from mayfly.model.jobs import InstallationId

NOW = datetime(2025, 11, 3, 10, 0, tzinfo=UTC)
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ONE, TWO = InstallationId(1), InstallationId(2)


def pem_of(
    key: RSAPrivateKey | ec.EllipticCurvePrivateKey, *, password: bytes | None = None
) -> str:
    hidden = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden
    ).decode()


PEM = pem_of(KEY)
PUBLIC = KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


class Watch:
    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    def new_id(self) -> str:
        raise NotImplementedError


def test_a_secret_shows_itself_only_when_asked():
    secret = Secret("planted")
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r:>20}", repr([secret])]
    assert not any("planted" in text for text in shown)
    assert secret.reveal() == "planted"


def test_a_secret_is_not_written_into_files_or_messages():
    secret = Secret("planted")
    for write in (pickle.dumps, copy.deepcopy, msgspec.json.encode):
        with pytest.raises(TypeError):
            write(secret)


def test_a_key_is_read_from_a_file(tmp_path):
    path = tmp_path / "app.pem"
    path.write_text(PEM)
    assert read_key(path, None).reveal() == PEM


def test_a_key_is_read_from_a_variable_even_with_its_line_breaks_written_out():
    assert read_key(None, PEM).reveal() == PEM
    assert read_key(None, PEM.replace("\n", "\\n")).reveal() == PEM


@pytest.mark.parametrize("which", ["missing", "directory", "empty", "blank"])
def test_a_key_file_that_cannot_be_used_is_named(tmp_path, which):
    path = tmp_path / "app.pem"
    if which == "directory":
        path.mkdir()
    elif which != "missing":
        path.write_text("" if which == "empty" else "\n \n")
    with pytest.raises(InvalidSettings, match=r"app\.pem"):
        read_key(path, None)


def test_an_empty_or_missing_variable_is_named():
    for value in ("", "  \n", None):
        with pytest.raises(InvalidSettings, match="MAYFLY_TEST_KEY"):
            read_key(None, value, variable="MAYFLY_TEST_KEY")


def test_a_key_given_twice_is_refused(tmp_path):
    with pytest.raises(InvalidSettings, match="given twice"):
        read_key(tmp_path / "app.pem", PEM)


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("hunter2-is-not-a-key", "not in PEM format"),
        (PUBLIC.decode(), "public key"),
        (pem_of(KEY, password=b"x"), "passphrase"),
        (pem_of(ec.generate_private_key(ec.SECP256R1())), "not an RSA key"),
        (PEM.replace(PEM[100:140], "A" * 40), "damaged"),
        (PEM[:400], "damaged"),
        ("\0\ufffd\N{SNOWMAN}", "not in PEM format"),
    ],
)
def test_what_is_not_a_private_key_is_explained_without_showing_it(tmp_path, content, hint):
    path = tmp_path / "app.pem"
    path.write_text(content)
    for read in (lambda: read_key(path, None), lambda: read_key(None, content)):
        with pytest.raises(InvalidSettings, match=hint) as raised:
            read()
        said = str(raised.value)
        assert not any(line in said for line in content.splitlines() if len(line) > 30)
        assert raised.value.__cause__ is None


async def test_the_app_signs_for_less_than_ten_minutes_and_a_minute_back():
    key = AppKey("Iv23liTest", LocalKey(Secret(PEM)), Watch())
    claims = jwt.decode(
        (await key.credential()).token.reveal(),
        PUBLIC,
        algorithms=["RS256"],
        options={"verify_exp": False, "verify_iat": False},
    )
    assert claims["iss"] == "Iv23liTest"
    assert claims["iat"] == NOW.timestamp() - 60
    assert NOW.timestamp() < claims["exp"] <= NOW.timestamp() + 600


class Counting:
    """Signs with a number, and fails when told to."""

    def __init__(self) -> None:
        self.signed = 0
        self.failure: Exception | None = None

    async def sign(self, text: bytes) -> bytes:
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        self.signed += 1
        return str(self.signed).encode()


async def test_a_jwt_is_signed_once_for_most_of_its_life_however_many_ask():
    watch, signer = Watch(), Counting()
    key = AppKey("Iv23liTest", signer, watch)
    first, *others = await asyncio.gather(*(key.credential() for _ in range(20)))
    watch.at += timedelta(minutes=6, seconds=59)
    assert all(other is first for other in [*others, await key.credential()])
    assert signer.signed == 1
    watch.at += timedelta(seconds=1)
    assert await key.credential() is not first
    assert signer.signed == 2


async def test_a_jwt_is_signed_anew_when_github_refused_it_or_the_clock_was_put_back():
    watch, signer = Watch(), Counting()
    key = AppKey("Iv23liTest", signer, watch)
    first = await key.credential()
    key.drop(first)
    second = await key.credential()
    key.drop(first)
    assert await key.credential() is second
    watch.at -= timedelta(seconds=1)
    assert await key.credential() is not second


async def test_a_signature_that_failed_is_asked_for_again():
    signer = Counting()
    signer.failure = GitHubUnreachable("the vault is away")
    key = AppKey("Iv23liTest", signer, Watch())
    with pytest.raises(GitHubUnreachable):
        await key.credential()
    signer.failure = None
    assert await key.credential()


class Issuer:
    """Hands out numbered tokens; waits at the gate, and fails when told to."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.asked: list[InstallationId] = []
        self.reached = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False

    async def __call__(self, installation: InstallationId) -> InstallationToken:
        self.asked.append(installation)
        self.reached.set()
        await self.gate.wait()
        if self.broken:
            raise GitHubUnreachable("no answer")
        value = Secret(f"ghs_{len(self.asked)}")
        return InstallationToken(Credential(value, {}), self.watch.now() + timedelta(hours=1))


async def test_a_token_is_kept_until_five_minutes_before_its_end():
    watch = Watch()
    tokens = InstallationTokens(issuer := Issuer(watch), watch)
    first = await tokens.get(ONE)
    watch.at += timedelta(minutes=54)
    assert await tokens.get(ONE) is first
    watch.at += timedelta(minutes=2)
    assert await tokens.get(ONE) is not first
    assert issuer.asked == [ONE, ONE]


async def test_all_who_wait_share_one_request_and_installations_do_not_mix():
    watch = Watch()
    tokens = InstallationTokens(issuer := Issuer(watch), watch)
    issuer.gate.clear()
    waiting = [asyncio.create_task(tokens.get(i)) for i in (ONE, TWO) * 20]
    await asyncio.sleep(0)
    issuer.gate.set()
    got = await asyncio.gather(*waiting)
    assert sorted(issuer.asked) == [ONE, TWO]
    assert len({id(credential) for credential in got}) == 2


async def test_one_who_gives_up_takes_nothing_from_the_others():
    watch = Watch()
    tokens = InstallationTokens(issuer := Issuer(watch), watch)
    issuer.gate.clear()
    first, second = (asyncio.create_task(tokens.get(ONE)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    issuer.gate.set()
    assert (await second).token.reveal() == "ghs_1"
    assert first.cancelled()


async def test_a_failure_is_told_to_all_and_the_next_one_tries_again():
    watch = Watch()
    tokens = InstallationTokens(issuer := Issuer(watch), watch)
    issuer.broken = True
    results = await asyncio.gather(*(tokens.get(ONE) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(result, GitHubUnreachable) for result in results)
    issuer.broken = False
    assert await tokens.get(ONE)
    assert len(issuer.asked) == 2


async def test_a_dropped_token_is_fetched_again_but_a_newer_one_stays():
    watch = Watch()
    tokens = InstallationTokens(issuer := Issuer(watch), watch)
    old = await tokens.get(ONE)
    tokens.drop(ONE, old)
    new = await tokens.get(ONE)
    tokens.drop(ONE, old)
    assert await tokens.get(ONE) is new
    assert len(issuer.asked) == 2


async def test_closing_ends_what_is_under_way():
    watch = Watch()
    tokens = InstallationTokens(issuer := Issuer(watch), watch)
    issuer.gate.clear()
    waiting = asyncio.create_task(tokens.get(ONE))
    await issuer.reached.wait()
    await tokens.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
