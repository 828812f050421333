"""The machine's clock."""

from datetime import UTC, datetime

from ulid import ULID


class SystemClock:
    """ports.Clock over the operating system's time and randomness."""

    def now(self) -> datetime:
        now = datetime.now(UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def new_id(self) -> str:
        return str(ULID()).lower()
