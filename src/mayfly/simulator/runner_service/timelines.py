"""The timeline of a job: what a runner says of its steps, the newest word on each."""

from __future__ import annotations

from collections import defaultdict
from typing import Literal

from msgspec import Struct, field

from mayfly.simulator.account_shapes import Json
from mayfly.simulator.jobs import StepRecord
from mayfly.simulator.runner_service.results import conclusion, state
from mayfly.simulator.runner_service.wire import instant


class LogReference(Struct, frozen=True, rename="lower"):
    """Which log is a record's."""

    id: int = 0


class Record(Struct, frozen=True, kw_only=True, rename="lower"):
    """One line of a timeline: the job itself, or a step."""

    id: str
    type: str | None = None
    name: str | None = None
    order: int | None = None
    state: str | int | None = None
    result: str | int | None = None
    start_time: str | None = field(default=None, name="starttime")
    finish_time: str | None = field(default=None, name="finishtime")
    log: LogReference | None = None


class Records(Struct, frozen=True, rename="lower"):
    """The body of an update."""

    value: list[Record] = field(default_factory=list)


class StepResult(Struct, frozen=True, kw_only=True, rename="lower"):
    """A step as a completion of v2 tells it."""

    external_id: str = ""
    number: int = 0
    name: str = ""
    status: str | int | None = None
    conclusion: str | int | None = None
    started_at: str | None = None
    completed_at: str | None = None


_STATUS: dict[str, Literal["queued", "in_progress", "completed"]] = {
    "pending": "queued",
    "inprogress": "in_progress",
    "completed": "completed",
}


class Timelines:
    """The records of every job, by the job's uid."""

    def __init__(self) -> None:
        self._records: defaultdict[int, dict[str, Record]] = defaultdict(dict)

    def update(self, job: int, told: list[Record]) -> list[StepRecord]:
        """Merge what a runner says; the steps of the job as they stand now."""
        kept = self._records[job]
        for record in told:
            before = kept.get(record.id)
            kept[record.id] = record if before is None else _merged(before, record)
        return self.steps(job)

    def steps(self, job: int) -> list[StepRecord]:
        found = [r for r in self._records[job].values() if (r.type or "").lower() == "task"]
        found.sort(key=lambda record: record.order or 0)
        return [_step(number, record) for number, record in enumerate(found, 1)]

    def logs(self, job: int) -> list[int]:
        """The ids of the steps' logs, in the order of the steps."""
        found = [r for r in self._records[job].values() if (r.type or "").lower() == "task"]
        found.sort(key=lambda record: record.order or 0)
        return [record.log.id for record in found if record.log is not None]

    def shape(self, job: int, timeline: str) -> Json:
        """The timeline as the service shows it."""
        records: list[Json] = [
            {
                "id": record.id,
                "type": record.type,
                "name": record.name,
                "order": record.order,
                "state": state(record.state),
                "result": record.result,
            }
            for record in self._records[job].values()
        ]
        return {"id": timeline, "changeId": len(records), "records": records}


def from_results(results: list[StepResult]) -> list[StepRecord]:
    """The steps as a completion of v2 tells them."""
    ordered = sorted(results, key=lambda result: result.number)
    return [
        _step(
            number,
            Record(
                id=result.external_id,
                name=result.name,
                state=result.status,
                result=result.conclusion,
                start_time=result.started_at,
                finish_time=result.completed_at,
            ),
        )
        for number, result in enumerate(ordered, 1)
    ]


def _merged(before: Record, now: Record) -> Record:
    # Runners send again only what changed.
    said = {
        name: value
        for name in Record.__struct_fields__
        if (value := getattr(now, name)) is not None
    }
    kept = {name: getattr(before, name) for name in Record.__struct_fields__}
    return Record(**(kept | said))


def _step(number: int, record: Record) -> StepRecord:
    status = _STATUS[state(record.state)]
    ended = status == "completed"
    return StepRecord(
        number=number,
        name=record.name or "",
        status=status,
        conclusion=conclusion(record.result) if ended and record.result is not None else None,
        started_at=instant(record.start_time),
        completed_at=instant(record.finish_time) if ended else None,
    )
