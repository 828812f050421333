"""How many executors there should be."""

from dataclasses import dataclass

import pytest

from mayfly.model.launches import LaunchId, LaunchPhase, LaunchRecord
from mayfly.model.scaling import Supply, again, failures, pause, wanted
from tests.fakes.clocks import NOON


@dataclass
class Case:
    open: int
    free: int
    ready: int
    buffer: int
    wanted: int


@pytest.mark.parametrize(
    "case",
    [
        Case(open=0, free=10, ready=0, buffer=0, wanted=0),
        Case(open=3, free=10, ready=0, buffer=0, wanted=3),
        Case(open=3, free=10, ready=2, buffer=0, wanted=1),
        Case(open=3, free=2, ready=0, buffer=0, wanted=2),
        Case(open=3, free=0, ready=0, buffer=0, wanted=0),
        Case(open=1000, free=100, ready=100, buffer=0, wanted=0),
        Case(open=0, free=10, ready=0, buffer=2, wanted=2),
        Case(open=3, free=10, ready=0, buffer=2, wanted=5),
        Case(open=9, free=10, ready=0, buffer=2, wanted=10),
        Case(open=0, free=1, ready=0, buffer=2, wanted=1),
        Case(open=0, free=10, ready=4, buffer=0, wanted=-4),
        Case(open=1, free=10, ready=4, buffer=1, wanted=-2),
        Case(open=5, free=-2, ready=1, buffer=0, wanted=-1),
    ],
    ids=str,
)
def test_what_is_wanted_follows_from_what_there_is(case: Case):
    assert wanted(Supply(case.open, case.free, case.ready), case.buffer) == case.wanted


def launch(*, worked: bool = False, failed: bool = False, at: float = 0.0) -> LaunchRecord:
    return LaunchRecord(
        id=LaunchId("a"),
        pool="linux",
        wanted_at=NOON,
        phase=LaunchPhase.OVER,
        phase_at=at,
        worked=worked,
        failed=failed,
    )


def test_failures_are_counted_back_to_the_last_launch_that_worked():
    newest_first = [
        launch(failed=True, at=9),
        launch(at=8),
        launch(failed=True, at=7),
        launch(worked=True, at=6),
        launch(failed=True, at=5),
    ]
    assert failures(newest_first) == (2, 9)
    assert failures([]) == (0, 0)


def test_pauses_double_and_end():
    assert [pause(count) for count in (0, 2, 3, 4, 5, 99)] == [0, 0, 10, 20, 40, 600]
    assert [again(count) for count in (1, 2, 3, 99)] == [10, 20, 40, 300]
