"""The form of the logs: one line an entry, and no secret in any."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

_SECRET: Final = re.compile(
    r"(^|_)(token|ticket|secrets?|password|private_key|pem|jit_config|signature|authorization|headers?"
    r"|body|payload|cookie)s?$",
    re.IGNORECASE,
)
HIDDEN: Final = "…"


def without_secrets(
    _logger: object, _method: str, entry: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A structlog processor: fields whose name says secret keep their name and lose their value."""
    for name, value in entry.items():
        if _SECRET.search(name):
            entry[name] = HIDDEN
        elif isinstance(value, dict):
            entry[name] = without_secrets(_logger, _method, dict(value))
    return entry


def configure_logs(*, json: bool, level: str = "info") -> None:
    """One line an entry on standard error; what libraries log comes out in the same form.

    Libraries are heard from warnings on: below that httpx, for one, writes addresses.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        without_secrets,
    ]
    last: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if json
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level.lower()),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,  # so that tests can watch loggers that were used before
    )
    _adopt_libraries(shared, last)


def _adopt_libraries(
    shared: list[structlog.typing.Processor], last: list[structlog.typing.Processor]
) -> None:
    handler = logging.StreamHandler(sys.stderr)
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared, _as_event],
            processors=[remove_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)


def _as_event(
    _logger: object, _method: str, entry: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A library's sentence becomes a field, because our events have fixed names."""
    entry["message"] = entry.get("event", "")
    entry["event"] = "library.logged"
    return entry
