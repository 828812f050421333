"""Names that callers write: found, or refused with a sentence, before anything acts on them."""

import re
from collections.abc import Iterable
from typing import Final

from litestar.exceptions import ClientException

from mayfly.model.errors import NotFound
from mayfly.model.pools import Pool

LARGEST_ID: Final = 2**53 - 1
"""What every reader of JSON can hold; GitHub's ids are far below."""
LONGEST_TEXT: Final = 1000
"""Characters of anything a caller writes that the ledger keeps."""
LONGEST_NAME: Final = 100
"""Characters; GitHub's own limit for a repository."""
GITHUB_NAME: Final = r"^[A-Za-z0-9._-]+$"
"""Names of accounts and repositories, for the description; Python's `$` lets a newline pass."""
_NAME: Final = re.compile(GITHUB_NAME.strip("^$"))


def pool_named(pools: Iterable[Pool], name: str) -> str:
    """The pool's name as mayfly.toml writes it; NotFound when it has none like it."""
    names = [pool.name for pool in pools]
    for known in names:
        if known.lower() == name.lower():
            return known
    raise NotFound(
        f"pool {name!r} is not in mayfly.toml; known pools: {', '.join(names) or 'none'}"
    )


def check_texts(**texts: str | None) -> None:
    """400 for an empty text, and for what a database or a log cannot hold; None is left out."""
    for name, text in texts.items():
        if text is not None and not (0 < len(text) <= LONGEST_TEXT and text.isprintable()):
            raise ClientException(
                f"{name} must be printable text of 1 to {LONGEST_TEXT} characters"
            )


def check_ids(**ids: int) -> None:
    """400 for a number that cannot be an id of GitHub's."""
    for name, number in ids.items():
        if not 0 < number <= LARGEST_ID:
            raise ClientException(f"{name} must be GitHub's number, from 1 on")


def check_github_names(**names: str | None) -> None:
    """400 for what cannot be the name of an account or a repository."""
    for what, name in names.items():
        if name is not None and (len(name) > LONGEST_NAME or not _NAME.fullmatch(name)):
            raise ClientException(
                f"{what} must be a GitHub name alone, as in owner=octo and repository=hello"
            )
