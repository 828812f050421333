"""Dates as HTTP writes them."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def http_date(text: str) -> datetime | None:
    """The time in a `Date` or `Retry-After` header; None when it says none."""
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the latter for a year or a zone no clock has
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
