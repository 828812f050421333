"""configuration.md has every setting, with the default the code has, and no other."""

import json
from enum import Enum
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mayfly.cli import edge_settings, executing, settings
from mayfly.drivers import configuring
from mayfly.model.deadlines import Deadlines
from mayfly.model.pools import Pool
from mayfly.web.tokens import Token
from tests.docs.pages import reference, rows, sections

PARTS: dict[str, dict[str, type[msgspec.Struct]]] = {
    "command": {"`[runner.configure]` of the driver command": configuring.Settings},
}
"""Tables within a driver's own."""
DRIVERS: dict[str, type[msgspec.Struct]] = {
    heading: table
    for entry in sorted(entry_points(group="mayfly.drivers"))
    for heading, table in (
        (f"`[runner]` of the driver {entry.name}", entry.load().Settings),
        *PARTS.get(entry.name, {}).items(),
    )
}
LAUNCHERS: dict[str, type[msgspec.Struct]] = {
    f"`[launchers.NAME]` of the backend {entry.name}": entry.load().Settings
    for entry in sorted(entry_points(group="mayfly.launchers"))
}
TABLES: dict[str, type[msgspec.Struct]] = {
    "Top level": settings.File,
    "`[server]`": settings.Server,
    "`[store]`": settings.Store,
    "`[bus]`": settings.BusTable,
    "`[github]`": settings.GitHubTable,
    "`[[pools]]`": Pool,
    "`[labels]`": settings.Labels,
    "`[[access]]`": settings.Access,
    "`[access_rules]`": settings.AccessRulesTable,
    "`[[tokens]]`": Token,
    "`[deadlines]`": Deadlines,
    "`[log]`": settings.Log,
    **LAUNCHERS,
    "Top level of reflector.toml": edge_settings.EdgeFile,
    "`[executor]`": executing.Tuning,
    **DRIVERS,
}
OF_EXECUTORS = (*DRIVERS.values(), executing.Tuning)


@pytest.mark.parametrize("heading", TABLES)
def test_a_table_has_every_setting_with_its_default_and_a_reason(heading):
    documented = rows(sections(reference("configuration.md"))[heading])
    declared = [
        (f"`{field.name}`", _written(field)) for field in msgspec.structs.fields(TABLES[heading])
    ]
    assert [(setting, default) for setting, default, *_ in documented] == declared
    assert all(len(row) == 3 and row[2].endswith((".", "`")) for row in documented)


def test_every_table_of_the_file_is_documented():
    found = [heading for heading in sections(reference("configuration.md")) if "[" in heading]
    assert found == [heading for heading in TABLES if "[" in heading]
    tables = {
        heading.partition("]")[0].strip("`[").partition(".")[0]
        for heading, kind in TABLES.items()
        if kind not in OF_EXECUTORS and "[" in heading
    }
    assert tables <= {field.name for field in msgspec.structs.fields(settings.File)}


def _written(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "*required*"
    value: Any = field.default
    if value is msgspec.NODEFAULT:
        value = field.default_factory()
    match value:
        case None:
            return "*unset*"
        case msgspec.Struct():
            return "*table*"
        case Enum():
            return f'`"{value.value}"`'
        case tuple():
            return f"`{json.dumps(value)}`"
        case Path():
            return f'`"{value}"`'
        case _:
            return f"`{msgspec.json.encode(value).decode()}`"
