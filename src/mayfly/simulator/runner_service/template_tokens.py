"""Template tokens: how a workflow's values, and the expressions in them, travel to a runner."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mayfly.simulator.account_shapes import Json

_EXPRESSION = re.compile(r"\$\{\{((?:[^'}]|'[^']*'|}(?!}))*)\}\}")


def text(value: str) -> str | Json:
    """A string; one with expressions becomes the `format` call that puts them in."""
    parts = _EXPRESSION.split(value)
    if len(parts) == 1:
        return value
    words, expressions = parts[::2], [part.strip() for part in parts[1::2]]
    if words == ["", ""]:
        return {"type": 3, "expr": expressions[0]}
    pattern = _plain(words[0])
    for number, following in enumerate(words[1:]):
        pattern += f"{{{number}}}{_plain(following)}"
    return {"type": 3, "expr": f"format('{pattern}', {', '.join(expressions)})"}


def mapping(values: Mapping[str, str]) -> Json:
    """A mapping of strings."""
    return {"type": 2, "map": [{"key": key, "value": text(v)} for key, v in values.items()]}


def _plain(words: str) -> str:
    return words.replace("{", "{{").replace("}", "}}").replace("'", "''")
