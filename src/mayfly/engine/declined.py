"""No, as an answer: what an operator asks for would change nothing."""

from typing import NamedTuple


class Declined(NamedTuple):
    """The sentence says why, and what would help."""

    sentence: str
