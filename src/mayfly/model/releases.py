"""Releases of GitHub's runner: which version is given jobs, and for how many days more."""

import re
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from math import ceil
from typing import NamedTuple

import msgspec


class Version(NamedTuple):
    """A version of GitHub's runner; a newer one is greater."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


class Release(NamedTuple):
    """A version GitHub offers, and when Mayfly saw it first."""

    version: Version
    seen_at: datetime


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A release for one kind of machine, as GitHub offers it for download."""

    os: str
    """`linux`, `osx` or `win`."""
    architecture: str
    """`x64`, `arm64` or `arm`."""
    filename: str
    """As in `actions-runner-linux-x64-2.330.0.tar.gz`."""
    url: str
    sha256: str | None
    """Of the archive; older servers of one's own do not tell it."""
    token: str | None = None
    """A bearer token for the download alone, short-lived; few servers ask for one."""

    @property
    def version(self) -> Version | None:
        """None: its name holds none."""
        return version_in(self.filename)

    def __repr__(self) -> str:
        return f"Offer({self.filename!r})"


MINIMUM = Version(2, 329, 0)
"""An older runner cannot register.

Source: GitHub's announcement, https://github.com/orgs/community/discussions/194762
"""
INSTALLED_WITHIN = timedelta(days=30)
"""So long after a release a runner without it is still given jobs. Source: as above."""
WARNED_DAYS = 10
"""So many days are enough to install a release without haste."""

_VERSION = re.compile(r"(?<![\d.])(\d{1,9})\.(\d{1,9})\.(\d{1,9})(?!\d)")


def version_in(text: str) -> Version | None:
    """The version in a file's name or a runner's own word; None: there is none."""
    found = _VERSION.search(text)
    return Version(*map(int, found.groups())) if found else None


def newest_of(offers: Iterable[Offer]) -> Version | None:
    """The newest version that is offered, whatever the machine."""
    return max(filter(None, (offer.version for offer in offers)), default=None)


def days_left(version: Version, releases: Collection[Release], now: datetime) -> float:
    """Days until GitHub gives a runner of this version no job any more, from 0 to 30.

    Counted from when Mayfly saw the first newer release. What was released before Mayfly was
    started is seen late, so that GitHub's own deadline may be earlier. What GitHub itself offers
    is never too old: a server of one's own may offer less than the minimum of github.com.
    """
    newer = [release.seen_at for release in releases if release.version > version]
    if not newer:
        return INSTALLED_WITHIN / timedelta(days=1)
    if version < MINIMUM:
        return 0.0
    return max(0.0, (min(newer) + INSTALLED_WITHIN - now) / timedelta(days=1))


class Outlook(NamedTuple):
    """How long the version on a machine will do."""

    days: float
    machine: str
    version: Version
    newest: Version

    @property
    def outdated(self) -> bool:
        """Whether somebody should install the newest release now."""
        return self.days <= WARNED_DAYS

    @property
    def refused(self) -> bool:
        """Whether it is given no job any more."""
        return self.days <= 0

    @property
    def sentence(self) -> str:
        """For people who wonder why a job waits."""
        until = "any more" if self.refused else f"after {ceil(self.days)} more day(s)"
        return (
            f"machine {self.machine} runs version {self.version} of GitHub's runner, and GitHub "
            f"gives it no jobs {until}; install {self.newest}"
        )
