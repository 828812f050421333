"""The endpoints of the App itself: they demand its own signed token."""

from __future__ import annotations

import json
from typing import Any

from litestar import Response, delete, get, patch, post
from litestar.params import FromPath
from msgspec import Struct, field

from mayfly.simulator import account_shapes as shapes
from mayfly.simulator.account_shapes import Json, moment
from mayfly.simulator.accounts import Installation
from mayfly.simulator.asking import (
    Asked,
    answer,
    authorization,
    body_of,
    cursor_link,
    number,
    paged,
    per_page,
    word,
    world_of,
)
from mayfly.simulator.deliveries import ContentType, Delivery
from mayfly.simulator.refusals import Refusal, not_found, unprocessable
from mayfly.simulator.world import World


class TokenAsked(Struct, frozen=True, kw_only=True):
    """The body of an access token request."""

    repositories: list[str] = field(default_factory=list)
    repository_ids: list[int] = field(default_factory=list)
    permissions: dict[str, str] | None = None


class HookConfig(Struct, frozen=True, kw_only=True):
    """The body of a webhook configuration change."""

    url: str | None = None
    secret: str | None = None
    content_type: ContentType | None = None
    insecure_ssl: str | float | None = None


def _as_app(request: Asked) -> World:
    world = world_of(request)
    world.verify_app(authorization(request))
    return world


def _with_hook(request: Asked) -> World:
    world = _as_app(request)
    if not world.deliveries.active:
        raise not_found()
    return world


@get("/app")
async def get_app(request: Asked) -> Response[Any]:
    world = _as_app(request)
    return answer(world.app())


@get("/app/installations")
async def list_installations(request: Asked) -> Response[Any]:
    world = _as_app(request)
    return paged(request, [_shape(world, i) for i in world.accounts.installations.values()], None)


@get("/app/installations/{installation_id:int}")
async def get_installation(request: Asked, installation_id: FromPath[int]) -> Response[Any]:
    world = _as_app(request)
    return answer(_shape(world, world.accounts.installation(installation_id)))


@delete("/app/installations/{installation_id:int}", status_code=204)
async def delete_installation(request: Asked, installation_id: FromPath[int]) -> None:
    world = _as_app(request)
    gone = world.accounts.uninstall(installation_id)
    world.announce_installation("installation", "deleted", gone)


@post("/app/installations/{installation_id:int}/access_tokens")
async def create_access_token(request: Asked, installation_id: FromPath[int]) -> Response[Any]:
    world = _as_app(request)
    asked = await body_of(request, TokenAsked)
    installation = world.accounts.installation(installation_id)
    if installation.suspended_at is not None:
        raise Refusal(403, "This installation has been suspended")
    body, _ = world.install_token(
        installation, asked.repositories, asked.repository_ids, asked.permissions
    )
    return answer(body, 201)


@get("/repos/{owner:str}/{repo:str}/installation")
async def repository_installation(
    request: Asked, owner: FromPath[str], repo: FromPath[str]
) -> Response[Any]:
    world = _as_app(request)
    found = world.accounts.installation_for(world.accounts.repository(owner, repo))
    return answer(_shape(world, _there(found)))


@get("/orgs/{org:str}/installation")
async def organization_installation(request: Asked, org: FromPath[str]) -> Response[Any]:
    world = _as_app(request)
    found = _there(world.accounts.installation_of(org))
    if found.owner.type != "Organization":
        raise not_found()
    return answer(_shape(world, found))


@get("/users/{username:str}/installation")
async def user_installation(request: Asked, username: FromPath[str]) -> Response[Any]:
    world = _as_app(request)
    return answer(_shape(world, _there(world.accounts.installation_of(username))))


@get("/app/hook/config")
async def get_hook_config(request: Asked) -> Response[Any]:
    return answer(_with_hook(request).deliveries.config)


@patch("/app/hook/config")
async def change_hook_config(request: Asked) -> Response[Any]:
    world = _with_hook(request)
    asked = await body_of(request, HookConfig)
    if asked.url is not None:
        world.deliveries.url = asked.url
    if asked.secret is not None:
        world.deliveries.secret = asked.secret
    if asked.content_type is not None:
        world.deliveries.content_type = asked.content_type
    if asked.insecure_ssl is not None:
        # GitHub takes a number, too, and shows a text.
        world.deliveries.insecure_ssl = str(asked.insecure_ssl)[0]
    return answer(world.deliveries.config)


@get("/app/hook/deliveries")
async def list_deliveries(request: Asked) -> Response[Any]:
    world = _with_hook(request)
    cursor = word(request, "cursor")
    if cursor is not None and not cursor.isdecimal():
        raise Refusal(400, "Invalid cursor")
    status = word(request, "status")
    if status not in {None, "success", "failure"}:
        raise unprocessable("Validation Failed", {"code": "invalid", "field": "status"})
    found, following = world.deliveries.page(
        per_page=per_page(request),
        cursor=None if cursor is None else number(request, "cursor", 0),
        status=status,
    )
    headers = {"Link": cursor_link(request, following)} if following else {}
    return answer([_item(delivery) for delivery in found], headers=headers)


@get("/app/hook/deliveries/{delivery_id:int}")
async def get_delivery(request: Asked, delivery_id: FromPath[int]) -> Response[Any]:
    world = _as_app(request)
    found = world.deliveries.get(delivery_id)
    return answer(
        _item(found)
        | {
            "url": world.deliveries.url or "",
            "request": {"headers": found.request_headers, "payload": json.loads(found.payload)},
            "response": {"headers": found.response_headers, "payload": found.response_body},
        }
    )


@post("/app/hook/deliveries/{delivery_id:int}/attempts")
async def redeliver(request: Asked, delivery_id: FromPath[int]) -> Response[Any]:
    world = _as_app(request)
    world.deliveries.redeliver(delivery_id)
    return answer({}, 202)


def _there(found: Installation | None) -> Installation:
    if found is None:
        raise not_found()
    return found


def _shape(world: World, found: Installation) -> Json:
    return shapes.installation(found, world.settings, world.base)


def _item(delivery: Delivery) -> Json:
    return {
        "id": delivery.id,
        "guid": delivery.guid,
        "delivered_at": moment(delivery.delivered_at),
        "redelivery": delivery.redelivery,
        "duration": delivery.duration,
        "status": delivery.status,
        "status_code": delivery.status_code,
        "event": delivery.event,
        "action": delivery.action,
        "installation_id": delivery.installation_id,
        "repository_id": delivery.repository_id,
        "throttled_at": None,
    }


ROUTES = [
    get_app,
    list_installations,
    get_installation,
    delete_installation,
    create_access_token,
    repository_installation,
    organization_installation,
    user_installation,
    get_hook_config,
    change_hook_config,
    list_deliveries,
    get_delivery,
    redeliver,
]
