"""Every error a command can end with becomes one sentence and an exit code."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from mayfly.model.errors import InvalidSettings, MayflyError

FAILED, INVALID, NO = 1, 2, 3


@contextmanager
def as_sentences() -> Iterator[None]:
    """No stack trace for a user's mistake: 1 the command failed, 2 the settings are wrong."""
    try:
        yield
    except InvalidSettings as error:
        raise _ended(str(error), INVALID) from error
    except MayflyError as error:
        raise _ended(str(error), FAILED) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _ended(sentence: str, code: int) -> typer.Exit:
    print(f"mayfly: {sentence}", file=sys.stderr)  # noqa: T201 - standard error is how a command speaks
    return typer.Exit(code)
