"""The key pairs of runners: as a runner brings its own, and as a JIT config hands one out."""

from __future__ import annotations

import base64
import re
from functools import cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPublicKey,
    RSAPublicNumbers,
    generate_private_key,
)

from mayfly.simulator.refusals import unprocessable

BITS: Final = 2048


def private_key(number: int) -> RSAPrivateKey:
    """The key of a runner the simulator registers itself.

    Neighbours never share one, but there are only two: to make one takes 0.1 s, and thousands of
    JIT configs are handed out in a test.
    """
    return _made(number % 2)


@cache
def _made(_: int) -> RSAPrivateKey:
    return generate_private_key(65537, BITS)


def parameters(key: RSAPrivateKey) -> dict[str, str]:
    """The file `.credentials_rsaparams`."""
    private = key.private_numbers()
    public = private.public_numbers
    full, half = BITS // 8, BITS // 16
    return {
        "d": _base64(private.d, full),
        "dp": _base64(private.dmp1, half),
        "dq": _base64(private.dmq1, half),
        "exponent": _base64(public.e, (public.e.bit_length() + 7) // 8),
        "inverseQ": _base64(private.iqmp, half),
        "modulus": _base64(public.n, full),
        "p": _base64(private.p, half),
        "q": _base64(private.q, half),
    }


def public_key(modulus: str, exponent: str) -> RSAPublicKey:
    """The key a runner brings, from base64 big-endian numbers."""
    try:
        n, e = (
            int.from_bytes(base64.b64decode(text, validate=True)) for text in (modulus, exponent)
        )
        return RSAPublicNumbers(e, n).public_key()
    except ValueError as error:
        raise unprocessable(f"the public key cannot be read: {error}") from None


def from_xml(text: str) -> RSAPublicKey:
    """The key a runner brings as an `RSAKeyValue`."""
    found = dict(re.findall(r"<(Modulus|Exponent)>([^<]*)</", text))
    return public_key(found.get("Modulus", ""), found.get("Exponent", ""))


def _base64(number: int, size: int) -> str:
    # Padded on the left: .NET takes no shorter numbers.
    return base64.b64encode(number.to_bytes(size)).decode()
