"""Who is asking: App tokens verified, installation tokens handed out and recognised."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Any

import jwt
from msgspec import Struct

from mayfly.simulator.accounts import Installation
from mayfly.simulator.refusals import Refusal

UNDECODABLE = "A JSON web token could not be decoded"
TOO_FAR = "'Expiration time' claim ('exp') is too far in the future"
EXPIRED = (
    "'Expiration time' claim ('exp') must be a numeric value representing the future time "
    "at which the assertion expires"
)
ISSUED_AT = (
    "'Issued at' claim ('iat') must be an Integer representing the time that the assertion "
    "was issued"
)
BAD_CREDENTIALS = "Bad credentials"

LONGEST_LIFE = timedelta(minutes=10)
CLOCK_SKEW = timedelta(seconds=60)


class Token(Struct, frozen=True, kw_only=True):
    """An installation token: what it opens, and until when."""

    value: str
    installation_id: int
    expires_at: datetime
    permissions: dict[str, str]
    repository_ids: frozenset[int] | None
    """None: every repository of the installation."""


class Tokens:
    """The installation tokens handed out so far."""

    def __init__(self) -> None:
        self.issued: dict[str, Token] = {}

    def issue(
        self,
        installation: Installation,
        *,
        permissions: dict[str, str],
        repository_ids: frozenset[int] | None,
        expires_at: datetime,
    ) -> Token:
        token = Token(
            value=f"ghs_{secrets.token_hex(18)}",
            installation_id=installation.id,
            expires_at=expires_at,
            permissions=permissions,
            repository_ids=repository_ids,
        )
        self.issued[token.value] = token
        return token

    def recognise(self, authorization: str | None, now: datetime) -> Token:
        """The token of an Authorization header; raises Refusal 401 as GitHub does."""
        if not authorization:
            raise Refusal(401, "Requires authentication")
        token = self.issued.get(credential(authorization))
        if token is None or token.expires_at <= now:
            raise Refusal(401, BAD_CREDENTIALS)
        return token

    def expire(self, now: datetime) -> None:
        """Let every token handed out end now."""
        for value, token in self.issued.items():
            self.issued[value] = Token(
                value=value,
                installation_id=token.installation_id,
                expires_at=now,
                permissions=token.permissions,
                repository_ids=token.repository_ids,
            )


def credential(authorization: str) -> str:
    """What follows the scheme; GitHub takes `Bearer`, `token`, in any case."""
    scheme, _, value = authorization.partition(" ")
    return value.strip() if scheme.lower() in {"bearer", "token"} else ""


def verify_app_token(
    authorization: str | None, *, public_key: str, issuers: frozenset[str], now: datetime
) -> None:
    """Accept a JWT signed by the App, or raise Refusal with GitHub's own sentence."""
    claims = _decode(credential(authorization or ""), public_key)
    _check_times(claims, now.timestamp())
    if str(claims.get("iss")) not in issuers:
        raise Refusal(404, "Integration not found")


def _decode(token: str, public_key: str) -> dict[str, Any]:
    # The times are checked below, because GitHub has a sentence for each.
    unchecked = {"verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_aud": False}
    try:
        return jwt.decode(
            token,
            public_key,
            algorithms=["RS256"],
            options=unchecked | {"verify_iss": False, "verify_sub": False, "verify_jti": False},  # type: ignore[arg-type]  # a TypedDict merged by `|` is a plain dict to mypy
        )
    except (jwt.InvalidTokenError, ValueError, TypeError):
        raise Refusal(401, UNDECODABLE) from None


def _check_times(claims: dict[str, Any], now: float) -> None:
    issued, expires = claims.get("iat"), claims.get("exp")
    if not isinstance(issued, int) or issued > now + CLOCK_SKEW.total_seconds():
        raise Refusal(401, ISSUED_AT)
    if not isinstance(expires, int | float) or expires <= now:
        raise Refusal(401, EXPIRED)
    # GitHub measures the ten minutes from its own clock, not from `iat`.
    if expires > now + LONGEST_LIFE.total_seconds():
        raise Refusal(401, TOO_FAR)
