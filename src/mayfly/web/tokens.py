"""Bearer tokens: made once, shown once, kept as a hash, compared in constant time."""

import secrets
from collections.abc import Iterable
from enum import StrEnum
from hashlib import sha256
from hmac import compare_digest
from typing import Final

import msgspec

from mayfly.model.errors import InvalidSettings

_PREFIX: Final = "mf_"
"""So that secret scanners and people know one when they see one."""
_DIGEST: Final = 64
"""Characters of a SHA-256 in hexadecimal."""


class Role(StrEnum):
    """What the bearer of a token may do."""

    EXECUTOR = "executor"
    """Lease, claim, register and finish, in its pools only."""
    OPERATOR = "operator"
    """Everything but what executors do."""
    METRICS = "metrics"
    """Read `/metrics` and `/readyz`."""


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One token of mayfly.toml (`[[tokens]]`), as `mayfly token new` prints it."""

    name: str
    """Whose it is; shown in logs."""
    sha256: str
    """SHA-256 of the token in hexadecimal. No salt: a token has 256 random bits."""
    role: Role
    """What its bearer may do."""
    pools: tuple[str, ...] = ()
    """Role executor only: the pools it may serve. Nothing is allowed by leaving it out."""
    machine: str | None = None
    """Role executor only: the machine it may speak for; unset: any."""

    def speaks_for(self, machine: str) -> bool:
        """Whether this token may be used by `machine`."""
        return self.machine is None or self.machine == machine

    def serves(self, pool: str) -> bool:
        """Whether this token is bound to `pool`."""
        return pool.lower() in {bound.lower() for bound in self.pools}


class Tokens:
    """The tokens an installation accepts."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._tokens = checked(tuple(tokens))

    def find(self, presented: bytes) -> Token | None:
        """The token whose secret this is; takes the same time whichever it is, or none."""
        digest = sha256(presented).hexdigest()
        found = None
        for token in self._tokens:
            if compare_digest(token.sha256.lower(), digest):
                found = token
        return found


def new_token(name: str, role: Role, pools: tuple[str, ...] = ()) -> tuple[str, Token]:
    """A fresh token and what to keep of it; the first part is shown once and never stored."""
    plain = _PREFIX + secrets.token_urlsafe(32)
    digest = sha256(plain.encode()).hexdigest()
    token = Token(name=name, sha256=digest, role=role, pools=pools)
    return plain, checked((token,))[0]


def checked(tokens: tuple[Token, ...]) -> tuple[Token, ...]:
    """The tokens; raises InvalidSettings with the sentence."""
    seen: set[str] = set()
    for token in tokens:
        _check_one(token)
        if token.name in seen:
            raise InvalidSettings(f"token {token.name!r} is declared twice in mayfly.toml")
        seen.add(token.name)
    return tokens


def _check_one(token: Token) -> None:
    where = f"token {token.name!r} in mayfly.toml"
    if not token.name.strip() or not token.name.isprintable():
        raise InvalidSettings(f"{where}: name must be printable text on one line, and not empty")
    if len(token.sha256) != _DIGEST or not set(token.sha256.lower()) <= set("0123456789abcdef"):
        raise InvalidSettings(
            f"{where}: sha256 must be {_DIGEST} hexadecimal digits; "
            "make a token and its hash with `mayfly token new`"
        )
    if token.role is Role.EXECUTOR and not token.pools:
        raise InvalidSettings(f'{where}: an executor\'s token names its pools, as in pools = ["…"]')
    if not all(pool.strip() for pool in token.pools):
        raise InvalidSettings(
            f"{where}: a name in pools is empty; write a pool's name or remove it"
        )
    if token.role is not Role.EXECUTOR and token.machine is not None:
        raise InvalidSettings(f"{where}: a machine is for role executor only; remove it")
    if token.role is not Role.EXECUTOR and token.pools:
        raise InvalidSettings(f"{where}: pools are for role executor only; remove them")
