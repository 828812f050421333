"""What GitHub says when it does not do what it is asked."""

from __future__ import annotations

from collections.abc import Mapping

DOCUMENTATION_URL = "https://docs.github.com/rest"


class Refusal(Exception):
    """An answer other than success: a status and GitHub's sentence."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: list[object] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})
        self.errors = errors

    def body(self) -> dict[str, object]:
        """The JSON body as GitHub shapes it."""
        body: dict[str, object] = {"message": self.message, "documentation_url": DOCUMENTATION_URL}
        if self.errors is not None:
            body["errors"] = self.errors
        # GitHub repeats the status as a string.
        return body | {"status": str(self.status)}


def not_found() -> Refusal:
    """The answer for what is not there, and for what the asker may not see."""
    return Refusal(404, "Not Found")


def not_permitted() -> Refusal:
    """The answer for a token that lacks the permission."""
    return Refusal(403, "Resource not accessible by integration")


def unprocessable(message: str, *errors: object) -> Refusal:
    """The answer for a body GitHub understood and cannot accept."""
    return Refusal(422, message, errors=list(errors) or None)
