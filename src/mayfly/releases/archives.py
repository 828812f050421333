"""Unpacking a runner's archive: its members are a stranger's, whatever the checksum says.

Files, directories and links inside the tree, nothing else. A member never goes through a link,
never replaces another one, and has no owner, no setuid and no write permission for others.
"""

import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath

from mayfly.model.errors import Permanent

MOST_MEMBERS = 100_000
MOST_BYTES = 8 * 1024**3
"""About ten times what a runner has: a bound for archives that grow without end."""
_MODE = 0o755


class Untrusted(Permanent):
    """The archive holds what a runner's archive never does."""


def unpack(archive: Path, into: Path, *, most_bytes: int = MOST_BYTES) -> None:
    """Unpack into a new directory; Untrusted when a member is not inside. OSError: no space.

    What was unpacked before the bad member stays: the caller removes `into`.
    """
    into.mkdir(mode=0o700)
    count = size = 0
    links: list[tarfile.TarInfo] = []
    try:
        with tarfile.open(archive, "r|gz") as members:
            for member in members:
                count, size = count + 1, size + abs(member.size)
                if count > MOST_MEMBERS or size > most_bytes:
                    raise Untrusted(f"{archive.name} is larger than any runner; nothing is kept")
                _unpack_one(members, member, into)
                if member.issym():
                    links.append(member)
    except (tarfile.TarError, EOFError) as error:
        raise Untrusted(f"{archive.name} is not a whole archive: {error}") from error
    for link in links:
        # Two links that are inside by their names can lead out of the tree together.
        if not Path(os.path.realpath(into / link.name)).is_relative_to(into.resolve()):
            raise _bad(link, "leads out of the tree through another link")


def _unpack_one(members: tarfile.TarFile, member: tarfile.TarInfo, into: Path) -> None:
    parts = _inside(member, member.name)
    if not parts:
        return  # the tree's own directory
    target = into.joinpath(*parts)
    try:
        _enter(member, into, parts[:-1])
        if member.isdir():
            _enter(member, into, parts)
        elif member.isreg():
            _write(members, member, target)
        elif member.issym():
            _inside(member, member.linkname, parts[:-1])
            target.symlink_to(member.linkname)
        elif member.islnk():
            _link(member, into, target)
        else:
            raise _bad(member, "is no file, directory or link")
    except FileExistsError:
        raise _bad(member, "is there twice") from None


def _write(members: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = members.extractfile(member)
    assert content is not None, "a regular file has content"  # noqa: S101 - tarfile's own contract
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with open(os.open(target, flags, member.mode & _MODE | 0o600), "wb") as file:  # noqa: PTH123 - by descriptor
        shutil.copyfileobj(content, file, 1 << 20)


def _link(member: tarfile.TarInfo, into: Path, target: Path) -> None:
    parts = _inside(member, member.linkname)
    _enter(member, into, parts[:-1])
    source = into.joinpath(*parts)
    if source.is_symlink() or not source.is_file():
        raise _bad(member, f"is a link to {member.linkname!r}, which is no file of the archive")
    target.hardlink_to(source)


def _enter(member: tarfile.TarInfo, into: Path, parts: tuple[str, ...]) -> None:
    """Make the directories on the way; none of them may be a link."""
    place = into
    for part in parts:
        place /= part
        if place.is_symlink():
            raise _bad(member, "goes through a link")
        place.mkdir(mode=0o755, exist_ok=True)


def _inside(member: tarfile.TarInfo, name: str, beside: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The parts of a name, seen from the top; Untrusted when it leaves the tree on the way."""
    if not name or name.startswith("/") or "\0" in name:
        raise _bad(member, f"names {name!r}")
    parts = list(beside)
    for part in PurePosixPath(name).parts:
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            raise _bad(member, f"leads out of the tree to {name!r}")
    return tuple(parts)


def _bad(member: tarfile.TarInfo, what: str) -> Untrusted:
    return Untrusted(f"member {member.name!r} of the archive {what}; nothing of it is kept")
