"""What an examination found: a sentence for each check, and what to do about it."""

from enum import StrEnum

import msgspec

from mayfly.model.errors import MayflyError


class Verdict(StrEnum):
    """How a check ended."""

    GOOD = "good"
    WARNING = "warning"
    """The control plane does its work; somebody is left out, or will be astonished."""
    WRONG = "wrong"
    UNCHECKED = "unchecked"
    """It depends on something that has to be put right, or made, first."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One check and its outcome."""

    check: str
    verdict: Verdict
    found: str
    remedy: str | None = None
    """What to do, as half a sentence."""

    @property
    def sentence(self) -> str:
        """What was found, and what to do."""
        return self.found if self.remedy is None else f"{self.found}; {self.remedy}"


def good(check: str, found: str) -> Finding:
    """Nothing to do."""
    return Finding(check=check, verdict=Verdict.GOOD, found=found)


def warning(check: str, found: str, remedy: str | None = None) -> Finding:
    """Worth knowing."""
    return Finding(check=check, verdict=Verdict.WARNING, found=found, remedy=remedy)


def wrong(check: str, found: str, remedy: str | None = None) -> Finding:
    """A person has to act."""
    return Finding(check=check, verdict=Verdict.WRONG, found=found, remedy=remedy)


def unchecked(check: str, why: str) -> Finding:
    """Nobody looked."""
    return Finding(check=check, verdict=Verdict.UNCHECKED, found=f"not checked: {why}")


def failed(check: str, error: MayflyError) -> Finding:
    """An error's sentence says what is wrong, and after a semicolon what to do."""
    found, _, remedy = str(error).partition("; ")
    return wrong(check, found, remedy or None)
