"""The schema of azurerm, read from the wheel of its Python bindings without importing them.

The bindings are generated from the provider's own schema, so the names, types and what is required
are the provider's. Not in them, and so not known here: whether a list is a set, whether an optional
argument is computed (all are, here), and the most items of a block that may be repeated.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

Schema = dict[str, Any]
"""`attributes`: name to (type, kind); `blocks`: name to (nesting, least, most, schema)."""

_PACKAGE = "cdktf_cdktf_provider_azurerm"
_SIMPLE = {
    "str": "string",
    "Number": "number",
    "IResolvable": "bool",
    "StringMap": ["map", "string"],
}
_META = {"connection", "count", "depends_on", "for_each", "lifecycle", "provider", "provisioners"}
_ADDRESS = re.compile(r'^(resource|data)\s+"(azurerm_\w+)"', re.MULTILINE)


def used(modules: Iterable[Path]) -> list[tuple[str, str]]:
    """(`resource` or `data`, type) of everything of azurerm that the files name."""
    texts = (file.read_text() for module in modules for file in module.rglob("*.tf"))
    return sorted({found for text in texts for found in _ADDRESS.findall(text)})


def read(wheel: Path, wanted: Iterable[tuple[str, str]]) -> dict[str, dict[str, Schema]]:
    """The schemas of those that exist; terraform itself complains of the others."""
    found: dict[str, dict[str, Schema]] = {"resource": {}, "data": {}}
    with ZipFile(wheel) as archive:
        names = {name.replace("_", ""): name for name in _modules(archive)}
        for kind, word in wanted:
            module = ("data_" if kind == "data" else "") + word
            if kind == "resource":
                module = word.removeprefix("azurerm_")
            if name := names.get(module.replace("_", "")):
                text = archive.read(f"{_PACKAGE}/{name}/__init__.py").decode()
                found[kind][word] = _Module(ast.parse(text)).schema()
    return found


def _modules(archive: ZipFile) -> Iterator[str]:
    for path in archive.namelist():
        if match := re.fullmatch(rf"{_PACKAGE}/(\w+)/__init__\.py", path):
            yield match[1]


class _Module:
    """One module of the bindings: a resource or data source, and the structs of its blocks."""

    def __init__(self, tree: ast.Module) -> None:
        self._classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}

    def schema(self) -> Schema:
        config = self._with_base("TerraformMetaArguments")
        thing = self._with_base("TerraformResource", "TerraformDataSource")
        return self._schema(config, thing)

    def _with_base(self, *names: str) -> ast.ClassDef:
        return next(
            node
            for node in self._classes.values()
            if any(isinstance(base, ast.Attribute) and base.attr in names for base in node.bases)
        )

    def _schema(self, config: ast.ClassDef, outputs: ast.ClassDef | None) -> Schema:
        attributes: dict[str, Any] = {}
        blocks: dict[str, Any] = {}
        for name, annotation, required in _arguments(config):
            if name in _META:
                continue
            if struct := self._struct(annotation):
                inner = self._schema(struct, self._classes.get(f"{struct.name}OutputReference"))
                one = not _is_sequence(annotation)
                nesting = "single" if name == "timeouts" else "list"
                blocks[name] = (nesting, int(required), int(one), inner)
            else:
                attributes[name] = (_type(annotation), "required" if required else "optional")
        if outputs:
            for name, kind in self._computed(outputs, {*attributes, *blocks}):
                attributes[name] = (kind, "computed")
        return {"attributes": attributes, "blocks": blocks}

    def _struct(self, annotation: ast.expr) -> ast.ClassDef | None:
        """The class of a block; its name is a string where it comes later in the file."""
        for node in ast.walk(annotation):
            match node:
                case ast.Constant(value=str(name)) | ast.Name(id=name) if name in self._classes:
                    return self._classes[name]
        return None

    def _computed(self, outputs: ast.ClassDef, known: set[str]) -> Iterator[tuple[str, Any]]:
        for node in outputs.body:
            if not isinstance(node, ast.FunctionDef) or node.name in known or node.returns is None:
                continue
            is_property = any(
                ast.unparse(one) == "builtins.property" for one in node.decorator_list
            )
            if is_property and not node.name.endswith("_input") and node.name != "internal_value":
                yield node.name, self._output_type(node.returns)

    def _output_type(self, annotation: ast.expr) -> Any:
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            name = annotation.value.removesuffix("List")
            if reference := self._classes.get(f"{name}OutputReference"):
                return ["list", ["object", dict(self._computed(reference, set()))]]
            return "dynamic"
        return _type(annotation)


def _arguments(config: ast.ClassDef) -> Iterator[tuple[str, ast.expr, bool]]:
    """(name, annotation, whether it is required) of the keywords of its `__init__`."""
    init = next(
        node
        for node in config.body
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    )
    for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True):
        if argument.annotation is not None:
            yield argument.arg, argument.annotation, default is None


def _is_sequence(annotation: ast.expr) -> bool:
    return "typing.Sequence[" in ast.unparse(annotation)


def _type(annotation: ast.expr) -> Any:
    """As terraform writes types in JSON."""
    if isinstance(annotation, ast.Attribute):
        return _SIMPLE.get(annotation.attr, "dynamic")
    if isinstance(annotation, ast.Subscript):
        container = annotation.value.attr if isinstance(annotation.value, ast.Attribute) else ""
        inner = (
            annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        )
        if container in {"Sequence", "List"}:
            return ["list", _type(inner[0])]
        if container == "Mapping":
            return ["map", _type(inner[1])]
        if container == "Optional":
            return _type(inner[0])
        if container == "Union" and "builtins.bool" in ast.unparse(annotation):
            return "bool"
    return "dynamic"
