"""Surprises: settings that can be read and will astonish all the same, each as a sentence."""

import os
from collections.abc import Iterator
from pathlib import Path
from stat import S_IROTH

from mayfly.cli.settings import File, Settings
from mayfly.database.addresses import path_of
from mayfly.model.pools import warnings
from mayfly.web.tokens import Role


def surprises(settings: Settings) -> list[str]:
    """What an operator should know before `serve` does."""
    file = settings.file
    return [*warnings(settings.pools), *_tokens(settings), *_secrets(file), *_databases(settings)]


def _tokens(settings: Settings) -> Iterator[str]:
    known = {pool.name.lower() for pool in settings.pools}
    for token in settings.file.tokens:
        for pool in token.pools:
            if pool.lower() not in known:
                yield f"token {token.name!r} names pool {pool!r}, which is none"
    parked = any(pool.launcher is None for pool in settings.pools)
    if parked and not any(token.role is Role.EXECUTOR for token in settings.file.tokens):
        yield (
            "no [[tokens]] with role executor, so no executor can connect; make one with "
            "`mayfly token new NAME --role executor --pool …`"
        )


def _secrets(file: File) -> Iterator[str]:
    github = file.github
    files = (github.private_key_file, *github.webhook_secret_files, file.access_rules.key_file)
    for path in files:
        if path is not None and path.stat().st_mode & S_IROTH:
            yield f"every user of this machine can read {path}; chmod o-rwx {path}"


def _databases(settings: Settings) -> Iterator[str]:
    file = settings.file
    pairs = ((file.store.backend, settings.store_url), (file.bus.backend, settings.bus_url))
    names = {path_of(url.reveal()) for backend, url in pairs if backend == "sql"}
    for path in sorted(Path(name) for name in names if name is not None):
        # SQLite writes files of its own beside the database.
        if not path.parent.is_dir():
            yield f"the database's directory {path.parent} does not exist, so `serve` cannot start"
        elif not all(os.access(one, os.W_OK) for one in (path.parent, path) if one.exists()):
            yield f"you may not write {path} or its directory; run `serve` as a user who may"
