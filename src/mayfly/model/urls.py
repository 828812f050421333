"""Urls that hold a password: taken apart only where it cannot be mistaken for another part."""

from urllib.parse import SplitResult, urlsplit

QUOTE = "special characters in its parts are written as %XX"


def parts_of(url: str) -> SplitResult | None:
    """The parts; None when a character of the password may have cut it in two.

    Whoever refuses the url then shows nothing of it, and no cause that quotes it.
    """
    try:
        parts = urlsplit(url)
        usable = parts.port != 0
    except ValueError:  # a bracket that is not closed, a port that is no number
        return None
    is_cut = "@" in parts.path + parts.query or parts.fragment or "\\" in parts.netloc
    return parts if usable and not is_cut and parts.netloc.count("@") <= 1 else None
