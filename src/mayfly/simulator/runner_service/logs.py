"""Log files as runners upload them, one for each step and one for the job."""

from __future__ import annotations

import itertools
import re

# What .NET writes before every line of an uploaded log.
_STAMP = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z ")


class Logs:
    """The files, by their number."""

    def __init__(self) -> None:
        self._files: dict[int, list[str]] = {}
        self._owners: dict[int, int] = {}
        self._ids = itertools.count(1)

    def create(self, job: int) -> int:
        """A new empty file of a job; its id."""
        log_id = next(self._ids)
        self._files[log_id] = []
        self._owners[log_id] = job
        return log_id

    def append(self, job: int, log_id: int, text: str) -> bool:
        """Add to a file; False when the job has no such file."""
        if self._owners.get(log_id) != job:
            return False
        self._files[log_id].extend(text.splitlines())
        return True

    def count(self, log_id: int) -> int:
        return len(self._files[log_id])

    def lines(self, job: int, log_ids: list[int]) -> list[str]:
        """The lines of these files of a job, without the times in front."""
        mine = [log_id for log_id in log_ids if self._owners.get(log_id) == job]
        return [_STAMP.sub("", line) for log_id in mine for line in self._files[log_id]]
