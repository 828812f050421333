"""One line per event on stderr: `event key=value …`; imports nothing, because start-up counts."""

import json
import logging
import sys

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@+,")


def line(event: str, **fields: object) -> str:
    """The event and its fields; what could break the line or forge a field is quoted."""
    return " ".join([event, *(f"{name}={_quoted(value)}" for name, value in fields.items())])


def complain(event: str, **fields: object) -> None:
    """An error a person must look at; its sentence says more than a trace would."""
    logging.getLogger(__package__).error(line(event, **fields))


def to_stderr(level: int = logging.INFO) -> None:
    """Write Mayfly's events to stderr, unless the program has a place for them already."""
    root = logging.getLogger("mayfly")
    if root.hasHandlers():
        return
    writer = logging.StreamHandler(sys.stderr)
    writer.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root.addHandler(writer)
    root.setLevel(level)


def _quoted(value: object) -> str:
    text = str(value)
    return text if text and _PLAIN.issuperset(text) else json.dumps(text)
