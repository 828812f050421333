"""A value that must not be seen: what it is can be asked for, but not by accident."""

from typing import Final


class Secret:
    """A key, token or password; every way of printing it shows only that there is one."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value: Final = value

    def reveal(self) -> str:
        """The value itself; the caller sees to it that it goes no further than it must."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __str__(self) -> str:
        return "…"

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not copied into files or messages")
