"""The journal: what happened in a world, line by line, and a digest by which two runs compare."""

import asyncio
from hashlib import blake2b


class Journal:
    """Every line goes into the digest; only the last ones are kept, unless all are wanted."""

    def __init__(self, kept: int | None = 400) -> None:
        self._loop = asyncio.get_running_loop()
        self._digest = blake2b(digest_size=16)
        self._kept = kept
        self.lines: list[str] = []

    def say(self, event: str, *subjects: object) -> None:
        """One line; only what is the same in every run of the seed may stand in it."""
        line = f"{self._loop.time():10.2f} {event} {' '.join(map(str, subjects))}"
        self._digest.update(line.encode())
        self.lines.append(line)
        if self._kept is not None and len(self.lines) > 2 * self._kept:
            del self.lines[: -self._kept]

    def digest(self) -> str:
        """Equal for two runs in which the same things happened at the same times."""
        return self._digest.hexdigest()
