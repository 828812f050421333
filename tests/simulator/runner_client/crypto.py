"""The runner's key: its numbers on the wire, the assertions it signs, the messages it opens."""

from __future__ import annotations

import base64
import json
import time
import uuid
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

BOM = b"\xef\xbb\xbf"


@cache
def key_number(number: int) -> rsa.RSAPrivateKey:
    """One of a few keys, made once: to make one takes 0.1 s."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def big_endian(number: int) -> str:
    size = (number.bit_length() + 7) // 8
    return base64.b64encode(number.to_bytes(size, "big")).decode()


def public_numbers(key: rsa.RSAPrivateKey) -> tuple[str, str]:
    """(exponent, modulus), base64 big-endian without a leading zero."""
    public = key.public_key().public_numbers()
    return big_endian(public.e), big_endian(public.n)


def from_parameters(parameters: dict[str, str]) -> rsa.RSAPrivateKey:
    """The key of `.credentials_rsaparams`; .NET takes its numbers at full length only."""
    lengths = {name: len(base64.b64decode(value)) for name, value in parameters.items()}
    full = lengths["modulus"]
    assert {lengths[name] for name in ("dp", "dq", "inverseQ", "p", "q")} == {full // 2}
    assert lengths["d"] == full
    return _read(**parameters)


@cache
def _read(**parameters: str) -> rsa.RSAPrivateKey:
    # Once for each key: to see that it is one takes 0.1 s.
    n = {k: int.from_bytes(base64.b64decode(v), "big") for k, v in parameters.items()}
    public = rsa.RSAPublicNumbers(n["exponent"], n["modulus"])
    return rsa.RSAPrivateNumbers(
        n["p"], n["q"], n["d"], n["dp"], n["dq"], n["inverseQ"], public
    ).private_key()


def assertion(
    key: rsa.RSAPrivateKey, client: str, audience: str, *, algorithm: str = "RS256", **claims: Any
) -> str:
    """A signed JWT, made by hand."""
    now = int(time.time()) - 30
    payload = {
        "sub": client,
        "iss": client,
        "jti": str(uuid.uuid4()),
        "aud": audience,
        "nbf": now,
        "iat": now,
        "exp": now + 300,
    }
    head = {"alg": algorithm, "typ": "JWT"}
    signed = ".".join(_url(json.dumps(part).encode()) for part in (head, payload | claims))
    scheme: padding.AsymmetricPadding = padding.PKCS1v15()
    if algorithm == "PS256":
        scheme = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)
    return f"{signed}.{_url(key.sign(signed.encode(), scheme, hashes.SHA256()))}"


def _url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def claims_of(token: str) -> dict[str, Any]:
    """What a JWT says; its signature is the server's own business."""
    middle = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    return found


def session_key(key: rsa.RSAPrivateKey, told: dict[str, Any], *, fips: bool) -> bytes | None:
    """The AES key of a session; None when its messages travel as they are."""
    raw = base64.b64decode(told["value"])
    if not raw:
        return None
    if not told["encrypted"]:
        return raw
    digest: hashes.HashAlgorithm = hashes.SHA256() if fips else hashes.SHA1()
    return key.decrypt(raw, padding.OAEP(padding.MGF1(digest), digest, None))


def opened(message: dict[str, Any], key: bytes | None) -> Any:
    """The JSON in a message; one without an initialisation vector is not sealed."""
    if not message.get("iv"):
        return json.loads(message["body"])
    assert key is not None
    iv = base64.b64decode(message["iv"])
    assert len(iv) == 16
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    padded = decryptor.update(base64.b64decode(message["body"])) + decryptor.finalize()
    last = padded[-1]
    assert 1 <= last <= 16
    assert padded.endswith(bytes([last]) * last)
    return json.loads(padded[:-last].removeprefix(BOM))
