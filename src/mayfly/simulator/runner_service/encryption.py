"""Sealing messages: an AES key for each session, given to the runner under its RSA key."""

from __future__ import annotations

import base64
import secrets

from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.asymmetric import padding as asymmetric
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

KEY_BYTES = 32
BLOCK_BITS = 128


def session_key() -> bytes:
    """A fresh AES-256 key."""
    return secrets.token_bytes(KEY_BYTES)


def wrapped(key: bytes, public: RSAPublicKey, *, fips: bool) -> str:
    """The session's key for the holder of the agent's private key alone, in base64."""
    # SHA-1 is what runners understand that are not told `useFipsEncryption`.
    digest = hashes.SHA256() if fips else hashes.SHA1()  # noqa: S303 - the protocol's choice
    scheme = asymmetric.OAEP(asymmetric.MGF1(digest), digest, None)
    return base64.b64encode(public.encrypt(key, scheme)).decode()


def sealed(text: str, key: bytes) -> tuple[str, str]:
    """(iv, body) in base64: AES-CBC with PKCS#7."""
    iv = secrets.token_bytes(BLOCK_BITS // 8)
    padder = padding.PKCS7(BLOCK_BITS).padder()
    padded = padder.update(text.encode()) + padder.finalize()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    body = encryptor.update(padded) + encryptor.finalize()
    return base64.b64encode(iv).decode(), base64.b64encode(body).decode()
