"""A runner's words for how something ended, in GitHub's."""

from __future__ import annotations

from typing import Final

from mayfly.simulator.jobs import Conclusion
from mayfly.simulator.refusals import unprocessable

# In the order of the enumeration, which some runners send as a number.
RESULTS: Final = ("succeeded", "succeededwithissues", "failed", "canceled", "skipped", "abandoned")
STATES: Final = ("pending", "inprogress", "completed")

_CONCLUSIONS: Final[dict[str, Conclusion]] = {
    "succeeded": "success",
    "succeededwithissues": "success",
    "success": "success",
    "failed": "failure",
    "failure": "failure",
    "abandoned": "failure",
    "canceled": "cancelled",
    "cancelled": "cancelled",
    "skipped": "skipped",
}


def conclusion(result: str | int | None) -> Conclusion:
    """The conclusion of a job or step; refuses a word that is none."""
    word = _word(result, RESULTS)
    try:
        return _CONCLUSIONS[word]
    except KeyError:
        raise unprocessable(f"{result!r} is no result of a job or step") from None


def state(told: str | int | None) -> str:
    """`pending`, `inprogress` or `completed`; what is not known is pending."""
    word = _word(told, STATES).replace("_", "")
    return word if word in STATES else "pending"


def _word(told: str | int | None, names: tuple[str, ...]) -> str:
    if isinstance(told, int):
        return names[told] if 0 <= told < len(names) else str(told)
    return (told or "").lower()
