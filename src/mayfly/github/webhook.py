"""A webhook delivery: first proven to come from GitHub, then decoded once, to typed values."""

import hmac
from collections.abc import Callable, Sequence

import msgspec

from mayfly.github.records import (
    STATE_OF_ACTION,
    Id,
    JobRecord,
    Place,
    event_of,
    has_nul,
    without_nul,
)
from mayfly.github.secrets import Secret
from mayfly.model.errors import Permanent, Unauthentic
from mayfly.model.jobs import InstallationId, WorkflowJobEvent


class NotJson(Permanent):
    """The body of a delivery is not JSON."""


class Ping(msgspec.Struct, frozen=True, kw_only=True):
    """GitHub tries the address out."""


class Starred(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody starred a repository: asks, harmlessly, what the access check would say."""

    owner: str
    repository: str
    sender: str


class InstallationChanged(msgspec.Struct, frozen=True, kw_only=True):
    """The App was installed, removed, suspended, or given other repositories or permissions."""

    action: str
    installation: InstallationId
    account: str


class Ignored(msgspec.Struct, frozen=True, kw_only=True):
    """Acknowledged and counted, so that nobody redelivers it; `reason` is for people."""

    event: str
    reason: str


Delivery = WorkflowJobEvent | Ping | Starred | InstallationChanged | Ignored

_PREFIX = b"sha256="


def verify(body: bytes, signature: bytes | None, secrets: Sequence[Secret | bytes]) -> None:
    """Raise Unauthentic unless `signature` is the HMAC-SHA256 of `body` under one of the secrets.

    `signature` is the raw value of `X-Hub-Signature-256`, any bytes. Two secrets are accepted so
    that one can be replaced without losing a delivery.
    Source: https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
    """
    if signature is None:
        raise Unauthentic("X-Hub-Signature-256 is missing; set a webhook secret at the GitHub App")
    genuine = False
    for secret in secrets:
        key = secret.reveal().encode() if isinstance(secret, Secret) else secret
        # Anybody can sign with an empty key. All secrets are tried, so time tells nothing.
        expected = _PREFIX + hmac.digest(key, body, "sha256").hex().encode()
        genuine |= hmac.compare_digest(expected, signature) and bool(key)
    if not genuine:
        raise Unauthentic(
            "X-Hub-Signature-256 does not fit the body; "
            "the webhook secret here and at the GitHub App must be the same"
        )


def decode(event_name: str, delivery_guid: str, body: bytes) -> Delivery:
    """What a delivery says; Ignored when we do not use it or cannot, NotJson when it is no JSON.

    `event_name` is `X-GitHub-Event`, `delivery_guid` is `X-GitHub-Delivery`.
    """
    decoder = _DECODERS.get(event_name, _unknown)
    try:
        return decoder(event_name, delivery_guid, body)
    except msgspec.ValidationError as error:
        _check_json(body)
        return Ignored(event=event_name, reason=f"not as GitHub documents it: {error}")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJson(f"the body of the delivery is not JSON: {error}") from error
    except RecursionError as error:
        raise NotJson("the body of the delivery is nested too deeply to be GitHub's") from error
    except OverflowError:
        return Ignored(event=event_name, reason="a time in it lies outside of the calendar")


class _Account(msgspec.Struct, frozen=True, gc=False):
    login: str = ""
    slug: str = ""
    """Enterprises have a slug and no login."""
    type: str = ""


class _Repository(msgspec.Struct, frozen=True):
    name: str
    owner: _Account


class _Installation(msgspec.Struct, frozen=True, gc=False):
    id: Id


class _InstallationOfAccount(msgspec.Struct, frozen=True):
    id: Id
    account: _Account


class _Present(msgspec.Struct, frozen=True, gc=False):
    """An object that is there; nothing in it is used."""


class _WorkflowJobDelivery(msgspec.Struct, frozen=True):
    action: str
    workflow_job: JobRecord | None = None
    repository: _Repository | None = None
    organization: _Present | None = None
    installation: _Installation | None = None


class _StarDelivery(msgspec.Struct, frozen=True):
    action: str
    repository: _Repository
    sender: _Account


class _InstallationDelivery(msgspec.Struct, frozen=True):
    action: str
    installation: _InstallationOfAccount


_workflow_job_decoder = msgspec.json.Decoder(_WorkflowJobDelivery)
_star_decoder = msgspec.json.Decoder(_StarDelivery)
_installation_decoder = msgspec.json.Decoder(_InstallationDelivery)
_object_decoder = msgspec.json.Decoder(_Present)
_any_decoder = msgspec.json.Decoder()


def _workflow_job(event_name: str, delivery: str, body: bytes) -> Delivery:
    decoded = _workflow_job_decoder.decode(body)
    state = STATE_OF_ACTION.get(decoded.action)
    if state is None:
        return Ignored(event=event_name, reason=f"unknown action {_brief(decoded.action)}")
    if decoded.workflow_job is None:
        return Ignored(event=event_name, reason="there is no workflow_job in it")
    repository = decoded.repository
    if repository is None or not repository.name or not repository.owner.login:
        return Ignored(event=event_name, reason="it does not name its repository")
    installation = decoded.installation
    place = Place(
        owner=repository.owner.login,
        owner_is_organization=(
            decoded.organization is not None or repository.owner.type == "Organization"
        ),
        repository=repository.name,
        installation=None if installation is None else InstallationId(installation.id),
    )
    event = event_of(decoded.workflow_job, state, place, delivery)
    if event is None:
        return Ignored(event=event_name, reason="it has neither created_at nor started_at")
    return without_nul(event) if has_nul(event) else event


def _star(event_name: str, _delivery: str, body: bytes) -> Delivery:
    decoded = _star_decoder.decode(body)
    if decoded.action != "created":
        return Ignored(event=event_name, reason=f"action {_brief(decoded.action)} is not used")
    return Starred(
        owner=decoded.repository.owner.login,
        repository=decoded.repository.name,
        sender=decoded.sender.login,
    )


def _installation(_event_name: str, _delivery: str, body: bytes) -> Delivery:
    decoded = _installation_decoder.decode(body)
    account = decoded.installation.account
    return InstallationChanged(
        action=decoded.action,
        installation=InstallationId(decoded.installation.id),
        account=account.login or account.slug,
    )


def _ping(_event_name: str, _delivery: str, body: bytes) -> Delivery:
    _object_decoder.decode(body)
    return Ping()


def _unknown(event_name: str, _delivery: str, body: bytes) -> Delivery:
    _object_decoder.decode(body)
    return Ignored(event=event_name, reason="events of this name are not used")


_DECODERS: dict[str, Callable[[str, str, bytes], Delivery]] = {
    "workflow_job": _workflow_job,
    "ping": _ping,
    "star": _star,
    "installation": _installation,
    "installation_repositories": _installation,
}


def _check_json(body: bytes) -> None:
    # A wrong type may stand before a syntax error; then it is not JSON all the same.
    try:
        _any_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotJson(f"the body of the delivery is not JSON: {error}") from error


def _brief(word: str) -> str:
    return repr(word[:40])
