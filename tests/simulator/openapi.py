"""Holds answers against GitHub's own OpenAPI description."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS30Validator, oas30_format_checker

FIXTURES = Path(__file__).parents[2].parent / "shared" / "fixtures"

# Real, and missing in our extract of the description.
UNDESCRIBED = {
    ("POST", "/repos/{owner}/{repo}/actions/runs/{run_id}/cancel"): 202,
    ("POST", "/repos/{owner}/{repo}/actions/runners/remove-token"): 201,
}


def fixture(name: str) -> Path:
    """A published file of GitHub's; skips without it, and fails where CI is set."""
    path = FIXTURES / name
    if not path.exists():
        reason = f"GitHub's published {name} is not at {path}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@cache
def description() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        fixture("github-openapi.json").read_text(), object_hook=_with_null
    )
    return document


def _with_null(schema: dict[str, Any]) -> dict[str, Any]:
    """GitHub means null, too, where it says `nullable` beside an enum; OpenAPI 3.0 does not."""
    if schema.get("nullable") is True and "enum" in schema:
        return schema | {"enum": [*schema["enum"], None]}
    return schema


def operations() -> list[tuple[str, str]]:
    """Every (method, path template) GitHub describes."""
    verbs = {"get", "post", "put", "patch", "delete"}
    paths = description()["paths"].items()
    return [(verb.upper(), path) for path, item in paths for verb in item if verb in verbs]


def validate(method: str, path: str, status: int, body: object) -> None:
    """Raise AssertionError unless GitHub could have answered like this.

    `path` is the request's path, with or without `/api/v3`; the web form, the website's downloads
    and the simulator's own paths pass.
    `body` is the decoded JSON, or None when there was none.
    """
    path = path.partition("?")[0].removeprefix("/api/v3")
    if path.startswith(("/_", "/actions/runner/releases/")) or path.endswith("/settings/apps/new"):
        return
    template = matching(method, path)
    if template is None:
        assert status == 404, f"GitHub does not describe {method} {path} ({status})"
        _check(_component("basic-error"), body, f"{method} {path} {status}")
        return
    if status == 304:
        # Every GET may be conditional; GitHub describes it for a few.
        assert (method, body) == ("GET", None), f"{method} {template} cannot answer 304 like this"
        return
    if (method, template) in UNDESCRIBED:
        assert status >= 400 or status == UNDESCRIBED[method, template]
        return
    where = f"{method} {template} {status}"
    responses = description()["paths"][template][method.lower()]["responses"]
    response = responses.get(str(status))
    if response is None:
        # GitHub leaves out the refusals every endpoint shares; all have this shape.
        assert status >= 400, f"{where} is not described"
        _check(
            _component("basic-error") | {"required": ["message", "documentation_url"]}, body, where
        )
        return
    content = _resolved(response).get("content", {})
    if not content:
        assert body in (None, ""), f"{where} has no body in GitHub's description"
        return
    _check(content["application/json"]["schema"], body, where)


@cache
def matching(method: str, path: str) -> str | None:
    """The template of a path; a literal segment beats a placeholder."""
    described = [t for verb, t in (*operations(), *UNDESCRIBED) if verb == method]
    parts = path.split("/")
    fitting = [t for t in described if _fits(t.split("/"), parts)]
    return min(fitting, key=lambda t: t.count("{"), default=None)


def _fits(template: list[str], parts: list[str]) -> bool:
    return len(template) == len(parts) and all(
        t == p or (t.startswith("{") and p != "") for t, p in zip(template, parts, strict=True)
    )


def _component(name: str) -> dict[str, Any]:
    found: dict[str, Any] = description()["components"]["schemas"][name]
    return found


def _resolved(item: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in item:
        found: Any = description()
        for key in item["$ref"].removeprefix("#/").split("/"):
            found = found[key]
        item = found
    return item


def _check(schema: dict[str, Any], body: object, where: str) -> None:
    validator = OAS30Validator(
        # The references inside point from the root of the whole description.
        {**_resolved(schema), "components": description()["components"]},
        format_checker=oas30_format_checker,
    )
    problems = [
        f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(body)
    ]
    assert not problems, f"{where}: " + "; ".join(problems)
