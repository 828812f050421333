"""The patrol: idle repositories in turn, and so few calls that nobody notices."""

from collections.abc import AsyncIterator

import pytest

from mayfly.engine.patrols import EVERY, LIST_EVERY, Patrol
from mayfly.model.access import AccessRule
from mayfly.model.errors import GitHubUnreachable
from mayfly.model.jobs import InstallationId
from mayfly.model.repositories import Repository
from mayfly.store.memory import MemoryAccessRules
from tests.fakes.clocks import ManualClock
from tests.fakes.github import FakeGitHub


class PagedGitHub(FakeGitHub):
    """Counts the repositories it was made to name, and may stop in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.named = 0
        self.stops_before: Repository | None = None

    async def repositories(self) -> AsyncIterator[Repository]:
        self.calls.append(("repositories", ""))
        for repository in self.seen:
            if repository == self.stops_before:
                self.stops_before = None
                raise GitHubUnreachable("no answer")
            self.named += 1
            yield repository


class World:
    """A patrol, and the clock it goes by."""

    def __init__(self) -> None:
        self.clock, self.github, self.access = ManualClock(), PagedGitHub(), MemoryAccessRules()
        self.patrol = Patrol(self.github, self.access, self.clock)

    async def steps(self, count: int) -> list[str]:
        """What is looked at in so many steps, each when the one before is paid for."""
        found: list[str] = []
        for _ in range(count):
            self.clock.advance(EVERY.total_seconds())
            if repository := await self.patrol.next():
                found.append(repository.name)
        return found


def at(installation: int, *names: str, owner: str = "octo") -> list[Repository]:
    return [Repository(InstallationId(installation), owner, name) for name in names]


@pytest.fixture
async def world() -> World:
    world = World()
    await world.access.grant(AccessRule(owner="octo", label="linux"))
    return world


async def test_a_restart_is_no_reason_to_ask(world: World):
    world.github.seen = at(7, "a")
    assert await world.patrol.next() is None
    world.clock.advance(EVERY.total_seconds() - 1)
    assert await world.patrol.next() is None
    assert world.github.calls == []


async def test_repositories_take_turns(world: World):
    world.github.seen = at(7, "a", "b", "c")
    assert await world.steps(9) == ["a", "b", "c", "a", "b", "c", "a"]


async def test_no_step_is_made_before_the_last_is_paid_for(world: World):
    world.github.seen = at(7, "a", "b")
    await world.steps(3)
    world.clock.advance(EVERY.total_seconds() / 2)
    assert await world.patrol.next() is None


async def test_a_step_of_listing_goes_no_further_than_the_next_installation(world: World):
    world.github.seen = [*at(7, "a", "b"), *at(8, "c", "d"), *at(9, "e")]
    await world.steps(1)
    assert world.github.named == 3
    assert sorted(set(await world.steps(60))) == ["a", "b", "c", "d", "e"]
    assert world.github.named == 5
    assert world.github.verbs("repositories") == ["repositories"]


@pytest.mark.parametrize("where", [0, 3])
async def test_a_listing_that_failed_begins_anew_at_the_next_step(world: World, where: int):
    world.github.seen = [*at(7, "a", "b"), *at(8, "c", "d")]
    world.github.stops_before = world.github.seen[where]
    with pytest.raises(GitHubUnreachable):
        await world.steps(20)
    assert await world.patrol.next() is None, "the step is paid for all the same"
    assert sorted(set(await world.steps(60))) == ["a", "b", "c", "d"]


async def test_the_list_is_made_anew_after_a_day(world: World):
    world.github.seen = at(7, "a")
    await world.steps(3)
    world.github.seen = at(7, "b")
    assert set(await world.steps(LIST_EVERY // EVERY - 5)) == {"a"}
    assert set((await world.steps(20))[-5:]) == {"b"}


async def test_an_installation_without_repositories_of_interest_costs_nothing_more(world: World):
    world.github.seen = at(7, "a", owner="stranger")
    assert await world.steps(30) == []
    assert world.github.verbs("repositories") == ["repositories"]


async def test_another_installation_is_paid_for_twice(world: World):
    """Its token has to be asked for too."""
    world.github.seen = [*at(7, "a"), *at(8, "b")]
    assert 16 <= len(await world.steps(40)) <= 20
