"""Which image a runner is made from: pinned by its name, and fetched before it is needed."""

import re
from enum import StrEnum

from mayfly.model.errors import InvalidSettings, Permanent

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*")
_HOST = re.compile(
    r"(?:localhost|\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)(?::[0-9]+)?"
    r"|[A-Za-z0-9-]+:[0-9]+"
)
"""As Docker tells a registry from a first part of a repository: by a dot, a port or localhost."""


class Trouble(StrEnum):
    """Why an image was not fetched, told apart because another person has to act on each."""

    UNKNOWN = "unknown_image"
    CREDENTIALS = "no_credentials"
    AWAY = "registry_away"
    SPACE = "no_space"
    OTHER = "other"


class ImageMissing(Permanent):
    """An image is not on the machine and cannot be fetched; `trouble` tells who has to act."""

    def __init__(self, trouble: Trouble, sentence: str) -> None:
        super().__init__(sentence)
        self.trouble = trouble


# In this order: a registry that wants a password says of an unknown image that access is denied.
_SAID = {
    Trouble.SPACE: r"no space left on device|disk quota exceeded",
    Trouble.CREDENTIALS: r"unauthorized|authentication required|denied|no basic auth credentials"
    r"|forbidden|\b40[13]\b",
    Trouble.UNKNOWN: r"manifest unknown|name unknown|repository name not known|not found"
    r"|does not exist|\b404\b",
    Trouble.AWAY: r"connection refused|no such host|time-?out|deadline exceeded|connection reset"
    r"|network is unreachable|no route to host|server misbehaving|bad gateway|unavailable"
    r"|http response to https client|\btls\b|\bx509\b|\beof\b",
}
_ADVICE = {
    Trouble.UNKNOWN: "the registry has no such image; correct [runner] image",
    Trouble.CREDENTIALS: "the registry wants other credentials; name a file with USER:PASSWORD "
    "in [runner] registry_credentials_file, or correct [runner] image",
    Trouble.AWAY: "the registry does not answer; see whether the engine's machine reaches it",
    Trouble.SPACE: "the engine's disk is full; remove images nobody needs (podman image prune)",
    Trouble.OTHER: "pull it by hand to see more",
}


def missing(image: str, said: str) -> ImageMissing:
    """What an engine says of an image it could not fetch, as our sentence."""
    text = " ".join(said.split())
    without = text.replace(image, "").lower()  # a name can be anything
    trouble = next(
        (each for each, pattern in _SAID.items() if re.search(pattern, without)), Trouble.OTHER
    )
    return ImageMissing(
        trouble, f"image {image} cannot be fetched: {_ADVICE[trouble]}; it said: {text[-300:]}"
    )


def absent(image: str) -> ImageMissing:
    """An image that is not there and must not be fetched."""
    return ImageMissing(
        Trouble.UNKNOWN,
        f"image {image} is not on this machine, and pull = false; load it, or set pull = true",
    )


def check(image: str, *, unpinned: bool) -> None:
    """InvalidSettings unless the name says which registry, and, without `unpinned`, which image."""
    name, at, digest = image.partition("@")
    host, _, rest = name.partition("/")
    repository, colon, tag = rest.partition(":")
    if not rest or not _HOST.fullmatch(host) or not _REPOSITORY.fullmatch(repository):
        raise InvalidSettings(
            f"image {image!r} is no whole name; write REGISTRY/REPOSITORY:TAG, as in "
            '"ghcr.io/actions/actions-runner:2.330.0" or "localhost/runner:1"'
        )
    if (colon and not _TAG.fullmatch(tag)) or (at and not _DIGEST.fullmatch(digest)):
        raise InvalidSettings(
            f"image {image!r} has a tag or digest that is none; a digest is sha256: and 64 digits"
        )
    if not at and tag in {"", "latest"} and not unpinned:
        raise InvalidSettings(
            f"image {image!r} names no version, so that jobs of one day would differ from those of "
            "the next; add a digest (@sha256:…) or a tag, or set allow_unpinned = true"
        )
