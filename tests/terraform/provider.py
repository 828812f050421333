"""A provider that has a schema and does nothing: `provider.py SOURCE SCHEMA.json`.

It says how terraform attaches to it, and stays: a start for each run of a test would take most of
the time. The environment with `tf` runs it, and what is in .venv is not there. With `mock_provider`
terraform asks it for the schema only.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tf.gen import tfplugin_pb2 as pb
from tf.runner import run_provider

_NESTING = {"single": pb.Schema.NestedBlock.SINGLE, "list": pb.Schema.NestedBlock.LIST}
_WRITE_ONLY = bytes([11 << 3, 1])
"""Field 11 of an attribute in tfplugin6.proto, newer than the messages `tf` was made from."""


class Prepared:
    """A schema that is a message already."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._block = _block(schema)

    def to_pb(self) -> Any:
        return pb.Schema(version=0, block=self._block)


def _block(schema: dict[str, Any]) -> Any:
    return pb.Schema.Block(
        attributes=[_attribute(name, *rest) for name, rest in schema["attributes"].items()],
        block_types=[
            pb.Schema.NestedBlock(
                type_name=name,
                nesting=_NESTING[nesting],
                min_items=least,
                max_items=most if nesting == "list" else 0,
                block=_block(inner),
            )
            for name, (nesting, least, most, inner) in schema["blocks"].items()
        ],
    )


def _attribute(name: str, type_: Any, kind: str) -> Any:
    write_only = name.endswith("_wo")
    attribute = pb.Schema.Attribute(
        name=name,
        type=json.dumps(type_).encode(),
        required=kind == "required",
        optional=kind == "optional",
        computed=kind != "required" and not write_only,
    )
    if write_only:
        attribute.MergeFromString(_WRITE_ONLY)
    return attribute


class Nothing:
    """Every resource and data source: whatever the schema lets through is right."""

    def validate(self, *_: object) -> None:
        """Nothing to say."""


class Provider:
    """What `tf` asks a provider for."""

    def __init__(self, name: str, schemas: dict[str, Any]) -> None:
        self._name = name
        self._schemas = schemas

    def full_name(self) -> str:
        return self._name

    def get_model_prefix(self) -> str:
        return ""

    def get_provider_schema(self, _: object) -> Prepared:
        return Prepared(self._schemas["provider"])

    def get_resources(self) -> list[type]:
        return list(_classes(self._schemas["resource"].items()))

    def get_data_sources(self) -> list[type]:
        return list(_classes(self._schemas["data"].items()))

    def get_functions(self) -> list[type]:
        return []

    def validate_config(self, *_: object) -> None:
        """Nothing to say."""

    def configure_provider(self, *_: object) -> None:
        """Nothing to configure."""

    def new_resource(self, _: type) -> Nothing:
        return Nothing()

    new_data_source = new_resource


def _classes(schemas: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[type]:
    for name, schema in schemas:
        answers = {
            "get_name": classmethod(lambda _, name=name: name),
            "get_schema": classmethod(lambda _, schema=schema: Prepared(schema)),
        }
        yield type(name, (), answers)


if __name__ == "__main__":
    run_provider(Provider(sys.argv[1], json.loads(Path(sys.argv[2]).read_text())), ["", "--dev"])
