"""The JSON names that Azure knows, from the models of its SDK: no address of Azure is asked."""

from collections.abc import Iterator
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from azure.mgmt.appcontainers import models


def unknown(body: Any, model: type, path: str = "") -> Iterator[str]:
    """Where the body has a name that the model, or one within it, has not."""
    fields = _fields(model)
    for name, value in body.items():
        here = f"{path}.{name}"
        if name not in fields:
            yield here
        elif inner := _model(fields[name]):
            for one in value if isinstance(value, list) else [value]:
                yield from unknown(one, inner, here)


def names(model: type) -> set[str]:
    """The JSON names of a model's own fields."""
    return set(_fields(model))


def _fields(model: Any) -> dict[str, Any]:
    """JSON name to the type of the field."""
    model({})  # the SDK fills in its table of names with the first one
    hints = get_type_hints(model, localns={"_models": models})
    # Private, so the version is pinned; the public way tells Python's names only.
    table = model._attr_to_rest_field
    return {field._rest_name: hints.get(name) for name, field in table.items()}


def _model(hint: Any) -> Any:
    """The model in `X | None` or `list[X] | None`."""
    if get_origin(hint) in {Union, UnionType, list}:
        return next((found for part in get_args(hint) if (found := _model(part))), None)
    ours = isinstance(hint, type) and hint.__module__ == models.Job.__module__
    return hint if ours else None
