"""Creating the App from a manifest: the form a browser posts, and the code turned into keys."""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import parse_qs, urlencode

import msgspec
from litestar import Response, post
from litestar.params import FromPath
from msgspec import Struct, field

from mayfly.simulator.asking import Asked, answer, word, world_of
from mayfly.simulator.keys import generate_app_key
from mayfly.simulator.refusals import not_found, unprocessable


class Hook(Struct, frozen=True, kw_only=True):
    """The webhook of a manifest."""

    url: str


class Manifest(Struct, frozen=True, kw_only=True):
    """What the simulator reads of a manifest."""

    redirect_url: str
    hook_attributes: Hook | None = None
    default_permissions: dict[str, str] = field(default_factory=dict)


@post(["/settings/apps/new", "/organizations/{org:str}/settings/apps/new"], status_code=302)
async def register_app(request: Asked) -> Response[Any]:
    """Take the form and send the browser back with a code, as if its owner had agreed."""
    form = parse_qs((await request.body()).decode())
    try:
        manifest = msgspec.json.decode(form["manifest"][0], type=Manifest)
    except (KeyError, msgspec.DecodeError) as error:
        raise unprocessable(f"Invalid manifest: {error}") from None
    code = secrets.token_hex(20)
    world = world_of(request)
    world.manifest_codes[code] = manifest.hook_attributes.url if manifest.hook_attributes else None
    query = {"code": code, "state": word(request, "state") or ""}
    joint = "&" if "?" in manifest.redirect_url else "?"
    return answer(None, 302, {"Location": f"{manifest.redirect_url}{joint}{urlencode(query)}"})


@post("/app-manifests/{code:str}/conversions")
async def convert(request: Asked, code: FromPath[str]) -> Response[Any]:
    """Hand out the App's secrets, once; its former key is worthless from now on."""
    world = world_of(request)
    if code not in world.manifest_codes:
        raise not_found()
    url = world.manifest_codes.pop(code)
    private, world.app_public_key = generate_app_key()
    world.deliveries.url = url
    world.deliveries.secret = secrets.token_hex(20)
    app = world.app()
    handed_out = {
        "client_secret": secrets.token_hex(20),
        "webhook_secret": world.deliveries.secret,
        "pem": private,
    }
    return answer(app | handed_out, 201)


ROUTES = [register_app, convert]
