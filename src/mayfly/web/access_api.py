"""The access rules over HTTP: who may use what, would this repository, let it, and no longer."""

from typing import Annotated

import msgspec
from litestar import HttpMethod, Response, Router, delete, get, put, route
from litestar.params import JSONBody, QueryParameter
from litestar.types import Guard

from mayfly.engine.plane import ControlPlane
from mayfly.model.access import AccessRule
from mayfly.model.errors import NotFound, Permanent
from mayfly.web.injected import GivenPlane
from mayfly.web.names import GITHUB_NAME, LONGEST_NAME, check_github_names, pool_named
from mayfly.web.problems import Conflict, documented
from mayfly.web.views import AccessVerdict, RuleView, rule_view

_NAME = msgspec.Meta(pattern=GITHUB_NAME, max_length=LONGEST_NAME)
Name = Annotated[str, QueryParameter(pattern=GITHUB_NAME, max_length=LONGEST_NAME)]
Label = Annotated[str, QueryParameter(description="The pool's name.")]
Whole = Annotated[
    str | None,
    QueryParameter(
        pattern=GITHUB_NAME, max_length=LONGEST_NAME, description="Left out: the owner's rule."
    ),
]


class AccessOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`PUT /v1/access`: let an owner, or one repository of it, use a pool."""

    owner: Annotated[str, _NAME]
    label: str
    """The pool's name."""
    repository: Annotated[str, _NAME] | None = None
    """Without the owner; left out: every repository of the owner."""


@route("/access", http_method=[HttpMethod.OPTIONS], include_in_schema=False, status_code=204)
async def verbs() -> Response[None]:
    """What the path can do; Litestar's own answer names the verbs of one handler only."""
    return Response(None, headers={"Allow": "DELETE, GET, OPTIONS, PUT"})


@get("/access", responses=documented())
async def rules(plane: GivenPlane) -> list[RuleView]:
    """Who may use what."""
    return [rule_view(rule) for rule in await plane.access.rules()]


@put("/access", responses=documented(400, 404, 409, 413, 503))
async def grant(data: JSONBody[AccessOrder], plane: GivenPlane) -> RuleView:
    """Let an owner or a repository use a pool, its queued jobs included. Idempotent."""
    rule = _rule(plane, data.label, data.owner, data.repository)
    try:
        await plane.access.grant(rule)
    except Permanent as error:
        raise Conflict(str(error)) from error
    await plane.intake.review()
    return rule_view(rule)


@delete("/access", responses=documented(400, 404, 409, 503))
async def revoke(plane: GivenPlane, owner: Name, label: Label, repository: Whole = None) -> None:
    """Take a rule back; 404 when there is none."""
    rule = _rule(plane, label, owner, repository)
    try:
        was_there = await plane.access.revoke(rule)
    except Permanent as error:
        raise Conflict(str(error)) from error
    # Even when there was none: an earlier try may have got no further than the rule.
    await plane.intake.review()
    if not was_there:
        raise NotFound(f"there is no rule {rule}; GET /v1/access lists what there is")


@get("/access/check", responses=documented(400, 404, 503))
async def check(plane: GivenPlane, owner: Name, repository: Name, label: Label) -> AccessVerdict:
    """What admission would say of this repository and pool."""
    wanted = _rule(plane, label, owner, repository)
    subject, pool = wanted.subject, wanted.label
    rule = await plane.access.find(owner, repository, pool)
    if rule is None:
        sentence = (
            f"{subject} may not use pool {pool!r}; `mayfly access allow {subject} {pool}` lets it"
        )
        return AccessVerdict(allowed=False, rule=None, sentence=sentence)
    sentence = f"{subject} may use pool {pool!r}: {rule}"
    return AccessVerdict(allowed=True, rule=str(rule), sentence=sentence)


def routes(guard: Guard) -> Router:
    """For operators."""
    return Router(
        "/v1",
        route_handlers=[
            verbs,
            rules,
            grant,
            revoke,
            check,
        ],  # verbs first, or Litestar adds its own
        guards=[guard],
        security=[{"bearer": []}],
        tags=["operator"],
    )


def _rule(plane: ControlPlane, label: str, owner: str, repository: str | None) -> AccessRule:
    check_github_names(owner=owner, repository=repository)
    return AccessRule(label=pool_named(plane.pools, label), owner=owner, repository=repository)
