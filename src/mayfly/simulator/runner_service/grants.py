"""The tokens of the runner service: who may register, listen for jobs, or report on one."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Final, Literal

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from msgspec import Struct

from mayfly.simulator.runner_service import faults
from mayfly.simulator.runners import Scope

Purpose = Literal["registration", "administration", "listener", "job"]

LIFE: Final = timedelta(hours=1)
_ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Grant(Struct, frozen=True, kw_only=True):
    """What a token is for, and for how long."""

    purpose: Purpose
    expires_at: datetime
    scope: Scope | None = None
    """Of a registration and of the administration that follows it."""
    runner_id: int = 0
    """Of a listener and of a job."""
    job: int = 0
    """The uid of the job."""


class Grants:
    """Every token handed out so far."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(64)
        self._granted: dict[str, Grant] = {}

    def registration(self, scope: Scope, now: datetime) -> tuple[str, datetime]:
        """A token for `configure`, or to remove a runner again; (token, end)."""
        token = f"SIM{secrets.token_hex(13).upper()}"
        self._granted[token] = Grant(purpose="registration", scope=scope, expires_at=now + LIFE)
        return token, now + LIFE

    def administration(self, scope: Scope, now: datetime) -> str:
        """What a registration token is traded for."""
        return self._token(
            Grant(purpose="administration", scope=scope, expires_at=now + LIFE), now, "admin"
        )

    def listener(self, runner_id: int, now: datetime) -> str:
        """What a runner listens with."""
        grant = Grant(purpose="listener", runner_id=runner_id, expires_at=now + LIFE)
        return self._token(grant, now, f"runner-{runner_id}")

    def job(self, runner_id: int, job: int, plan_id: str, now: datetime) -> str:
        """What a runner reports on one job with; it lasts as long as any job may."""
        end = now + timedelta(days=5)
        grant = Grant(purpose="job", runner_id=runner_id, job=job, expires_at=end)
        return self._token(grant, now, plan_id)

    def recognise(self, authorization: str | None, now: datetime, *purposes: Purpose) -> Grant:
        """The grant behind an Authorization header; raises Fault 401."""
        scheme, _, token = (authorization or "").partition(" ")
        found = self._granted.get(token.strip())
        if found is None or found.purpose not in purposes or found.expires_at <= now:
            raise faults.unauthorized()
        # `RemoteAuth` is for the token people copy, `Bearer` for the ones made from it.
        if found.purpose == "registration" and scheme.lower() not in {"remoteauth", "bearer"}:
            raise faults.unauthorized()
        return found

    def _token(self, grant: Grant, now: datetime, about: str) -> str:
        # A JWT, because the official runner reads `orch_id` out of it.
        claims = {
            "iss": "mayfly-simulator",
            "iat": int(now.timestamp()),
            "exp": int(grant.expires_at.timestamp()),
            "jti": secrets.token_hex(8),
            "orch_id": about,
        }
        token = jwt.encode(claims, self._secret, algorithm="HS512")
        self._granted[token] = grant
        return token


def client_of(form: dict[str, str]) -> str:
    """Which client a token request claims to come from; its signature is still to be checked."""
    if form.get("grant_type") != "client_credentials":
        raise faults.oauth("unsupported_grant_type", "grant_type must be client_credentials")
    if form.get("client_assertion_type") != _ASSERTION:
        raise faults.oauth("invalid_request", f"client_assertion_type must be {_ASSERTION}")
    try:
        unverified = jwt.decode(
            form.get("client_assertion", ""), options={"verify_signature": False}
        )
    except jwt.InvalidTokenError as error:
        raise faults.oauth("invalid_client", f"the assertion cannot be read: {error}") from None
    return str(unverified.get("iss"))


def verify_assertion(form: dict[str, str], key: RSAPublicKey, client: str, audience: str) -> None:
    """Accept the assertion of the holder of `key`, or raise Fault 400."""
    try:
        jwt.decode(
            form["client_assertion"],
            key,
            algorithms=["RS256", "PS256"],
            audience=audience,
            issuer=client,
            subject=client,
            leeway=60,
            options={"require": ["exp", "nbf", "aud", "iss", "sub", "jti"]},
        )
    except jwt.InvalidTokenError as error:
        raise faults.oauth("invalid_client", f"the assertion is not accepted: {error}") from None
