"""The OpenAPI description: generated, and completed with what Litestar does not know."""

from importlib.metadata import version
from typing import Any, Final

from litestar import Request, Router
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import Guard

from mayfly.model.protocol import (
    BootOrder,
    ClaimOrder,
    FinishOrder,
    LeaseOrder,
    RingOrder,
    SettleOrder,
    StartedOrder,
)
from mayfly.web.access_api import AccessOrder
from mayfly.web.problems import MEDIA_TYPE
from mayfly.web.reflector import PATH

_ORDERS: Final = (
    *(LeaseOrder, SettleOrder, ClaimOrder, BootOrder, StartedOrder, FinishOrder),
    *(RingOrder, AccessOrder),
)
"""They refuse unknown fields, so that a typing error is no silence."""
_HEADERS: Final = {
    "X-GitHub-Event": "The kind of event; only workflow_job leads to runners.",
    "X-GitHub-Delivery": "GitHub's id of the delivery.",
    "X-Hub-Signature-256": "sha256= and the HMAC-SHA256 of the raw body in hexadecimal.",
}
_REFUSALS: Final = {
    400: "The body is not JSON.",
    401: "The signature is missing or does not fit the body.",
    408: "The body did not arrive in time.",
    413: "The body is larger than 25 MB.",
    415: "The content type is not application/json.",
    500: "An error of Mayfly's own.",
    503: "The ledger cannot take it now; redeliver after Retry-After.",
}
_ANY: Final = {
    "description": "Any JSON: what GitHub does not document is acknowledged, not refused."
}
_RESULT: Final = {
    "type": "object",
    "required": ["result"],
    "properties": {"result": {"type": "string"}},
}


class CompletedJson(JsonRenderPlugin):
    """Litestar's description with the webhook path, which another callable serves."""

    def __init__(self, *, pull: bool) -> None:
        super().__init__()
        self._pull = pull

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return super().render(request, completed(openapi_schema, pull=self._pull))


def config(guard: Guard, *, pull: bool) -> OpenAPIConfig:
    """Served at `/schema/openapi.json`, to every bearer of a token."""
    bearer = SecurityScheme(type="http", scheme="bearer", description="`mayfly token new`")
    return OpenAPIConfig(
        title="Mayfly",
        version=version("mayfly-runners"),
        description="A control plane for self-hosted GitHub Actions runners.",
        components=Components(security_schemes={"bearer": bearer}),
        render_plugins=[CompletedJson(pull=pull)],
        use_handler_docstrings=True,
        openapi_router=Router(
            "/schema", route_handlers=[], guards=[guard], include_in_schema=False
        ),
    )


def completed(generated: dict[str, Any], *, pull: bool) -> dict[str, Any]:
    """The description with the webhook path, if there is one, and orders without other fields."""
    schemas = dict(generated["components"]["schemas"])
    for order in _ORDERS:
        schemas[order.__name__] = schemas[order.__name__] | {"additionalProperties": False}
    return generated | {
        "components": generated["components"] | {"schemas": schemas},
        "paths": generated["paths"] | ({} if pull else {PATH: {"post": _webhook()}}),
    }


def _webhook() -> dict[str, Any]:
    accepted = {
        "description": "Taken, or acknowledged and counted when it is of no use.",
        "content": {"application/json": {"schema": _RESULT}},
    }
    return {
        "operationId": "TakeDelivery",
        "tags": ["webhooks"],
        "summary": "Take a delivery of the GitHub App.",
        "description": "Answered once the ledger has it. Open: the signature is the proof.",
        "security": [{}],
        "parameters": [
            {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
            for name, text in _HEADERS.items()
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ANY}}},
        "responses": {"202": accepted, **_problems()},
    }


def _problems() -> dict[str, Any]:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        str(status): {"description": text, "content": content} for status, text in _REFUSALS.items()
    }
