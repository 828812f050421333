"""Which user a runner runs as, and whether that user can reach a directory."""

import os
import pwd
import stat
from pathlib import Path
from typing import NamedTuple

from mayfly.model.errors import InvalidSettings, Permanent

_PER_SLOT = "mayfly-runner-{slot}"


class Account(NamedTuple):
    """A user of this machine."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    other: bool
    """Another user than the executor's own."""
    shared: bool = False
    """Jobs of other slots run as this user too, and may read each other's environment."""


def chosen(run_as: str | None, slot: str) -> Account:
    """The user of a slot: `run_as`, else the first of these that exists; ours when not root.

    A user per slot (`mayfly-runner-SLOT`) keeps jobs of the same machine apart from each other.
    """
    if os.geteuid() != 0:
        return _own(run_as)
    for name in [run_as] if run_as else [_PER_SLOT, "mayfly-runner", "nobody"]:
        if account := _named(name.replace("{slot}", slot)):
            if account.uid == 0:
                raise InvalidSettings(f"run_as = {name!r} is root; name an unprivileged user")
            per_slot = "{slot}" in name or name == _PER_SLOT.replace("{slot}", slot)
            return account._replace(shared=not per_slot)
    raise InvalidSettings(
        f"no user {run_as or 'mayfly-runner'!r} on this machine; create one "
        "(useradd --system mayfly-runner) or set run_as"
    )


def check_reachable(directory: Path, account: Account) -> None:
    """Permanent when a parent of `directory` is closed to the user who has to work in it."""
    for parent in directory.parents:
        if not _may_enter(parent.stat(), account):
            raise Permanent(
                f"user {account.name!r} cannot enter {parent}, a parent of {directory}; "
                f"chmod o+x {parent}, or choose another state directory"
            )


def _may_enter(found: os.stat_result, account: Account) -> bool:
    if found.st_uid == account.uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid in {account.gid, *account.groups}:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)


def _own(run_as: str | None) -> Account:
    own = _of(pwd.getpwuid(os.geteuid()))
    if run_as is not None and run_as != own.name:
        raise InvalidSettings(
            f"run_as = {run_as!r}, but the executor runs as {own.name!r} and cannot change its "
            "user; start it as root or remove run_as"
        )
    return own._replace(shared=True)


def _named(name: str) -> Account | None:
    try:
        return _of(pwd.getpwnam(name))
    except (KeyError, ValueError):  # ValueError: not even a name, as with a NUL in it
        return None


def _of(entry: pwd.struct_passwd) -> Account:
    return Account(
        name=entry.pw_name,
        uid=entry.pw_uid,
        gid=entry.pw_gid,
        groups=tuple(os.getgrouplist(entry.pw_name, entry.pw_gid)),
        other=entry.pw_uid != os.geteuid(),
    )
