"""Works: each once at a time, and the trouble of one stays there."""

import asyncio

import structlog

from mayfly.engine.works import AT_ONCE, SILENCES, Works
from mayfly.model.errors import Transient
from mayfly.model.jobs import InstallationId

OURS, THEIRS = InstallationId(1), InstallationId(2)
SOON = 5


class Work:
    """Something that ends when a test says so."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun = 0
        self.ended = 0
        self.error = error
        self.gate = asyncio.Event()

    def open(self) -> "Work":
        self.gate.set()
        return self

    async def __call__(self) -> None:
        self.begun += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.ended += 1


async def settled(works: Works) -> None:
    async with asyncio.timeout(SOON):
        await works.settled()


async def breathe() -> None:
    """Everything that can go on does."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_same_thing_is_done_once_at_a_time():
    works, first, second = Works(), Work(), Work()
    works.begin("a", OURS, first)
    works.begin("a", OURS, second)
    works.begin("b", OURS, second.open())
    await breathe()
    assert (first.begun, second.begun) == (1, 1)
    first.open()
    await settled(works)
    works.begin("a", OURS, second)
    await settled(works)
    assert (first.ended, second.ended) == (1, 2)


async def test_what_a_work_raises_stays_there_and_is_said():
    works, sound = Works(), Work().open()
    with structlog.testing.capture_logs() as entries:
        works.begin("refused", OURS, Work(Transient("no answer")).open())
        works.begin("broken", OURS, Work(ValueError("a mistake")).open())
        works.begin("sound", OURS, sound)
        await settled(works)
    assert sound.ended == 1
    assert [(entry["event"], entry["repair"]) for entry in entries] == [
        ("repair.failed", "refused"),
        ("repair.stumbled", "broken"),
    ]


async def test_what_failed_may_begin_again():
    works = Works()
    works.begin("a", OURS, Work(ValueError("a mistake")).open())
    await settled(works)
    again = Work().open()
    works.begin("a", OURS, again)
    await settled(works)
    assert again.ended == 1


async def test_an_installation_has_only_a_few_at_once_and_holds_no_other_up():
    works, ours, theirs = Works(), Work(), Work().open()
    for number in range(AT_ONCE + 3):
        works.begin(number, OURS, ours)
    works.begin("theirs", THEIRS, theirs)
    await breathe()
    assert (ours.begun, theirs.ended) == (AT_ONCE, 1)
    ours.open()
    await settled(works)
    assert ours.ended == AT_ONCE + 3


async def test_settled_waits_for_what_begins_meanwhile():
    works, late = Works(), Work().open()

    async def begins_another() -> None:
        works.begin("late", OURS, late)

    works.begin("early", OURS, begins_another)
    await settled(works)
    assert late.ended == 1


def test_three_silences_in_a_row_put_an_installation_off_and_no_other():
    works = Works()
    for _ in range(SILENCES - 1):
        works.heard(OURS, answer=False)
    assert not works.is_down(OURS)
    works.heard(OURS, answer=False)
    works.heard(THEIRS, answer=False)
    assert works.is_down(OURS)
    assert not works.is_down(THEIRS)


def test_an_answer_in_between_begins_the_row_anew():
    works = Works()
    for answer in (False, False, True, False, False):
        works.heard(OURS, answer=answer)
    assert not works.is_down(OURS)


def test_every_turn_everybody_may_answer_again():
    works = Works()
    for _ in range(SILENCES):
        works.heard(OURS, answer=False)
    works.new_turn()
    assert not works.is_down(OURS)


async def test_nothing_is_under_way_when_it_is_closed():
    works, endless = Works(), Work()
    async with works.open():
        for number in range(AT_ONCE + 1):
            works.begin(number, OURS, endless)
        await breathe()
    assert endless.ended == 0
    assert len(asyncio.all_tasks()) == 1, "the test itself"
