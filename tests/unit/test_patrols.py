"""The patrol: idle repositories in turn, and so few calls that nobody notices."""

from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from mayfly.engine.patrols import EVERY_SECONDS, LIST_EVERY_SECONDS, Patrol
from mayfly.model.access import AccessRule
from mayfly.model.errors import GitHubUnreachable
from mayfly.model.jobs import InstallationId
from mayfly.model.repositories import Repository
from mayfly.store.memory import MemoryAccessRules
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
    """A patrol, and the ledger time it goes by."""

    def __init__(self) -> None:
        self.github, self.access = PagedGitHub(), MemoryAccessRules()
        self.at = 100.0
        self.restart()

    def restart(self) -> None:
        self.patrol = Patrol(self.github, self.access)

    async def passes(self, seconds: float) -> str | None:
        """The name of what is to be looked at after so long."""
        before, self.at = self.at, self.at + seconds
        repository = await self.patrol.next(before, self.at)
        return repository.name if repository else None

    async def steps(self, count: int) -> list[str]:
        """What is looked at in so many steps."""
        names = [await self.passes(EVERY_SECONDS) for _ in range(count)]
        return [name for name in names if name]


def at(installation: int, *names: str, owner: str = "octo") -> list[Repository]:
    return [Repository(InstallationId(installation), owner, name) for name in names]


@pytest.fixture
async def world() -> World:
    world = World()
    await world.access.grant(AccessRule(owner="octo", label="linux"))
    return world


async def test_a_restart_is_no_reason_to_ask(world: World):
    world.github.seen = at(7, "a")
    world.at = 2 * EVERY_SECONDS
    assert await world.passes(EVERY_SECONDS - 1) is None
    assert world.github.calls == []


async def test_repositories_take_turns(world: World):
    world.github.seen = at(7, "a", "b", "c")
    looked_at = await world.steps(12)
    assert len(looked_at) == 10, "the first two steps are the list's"
    assert min(looked_at.count(name) for name in "abc") >= 3


async def test_nobody_waits_longer_than_a_round_and_a_step(world: World):
    world.github.seen = at(7, *"abcdef")
    looked_at = await world.steps(100)
    for name in "abcdef":
        turns = [step for step, one in enumerate(looked_at) if one == name]
        assert max(later - earlier for earlier, later in pairwise(turns)) <= 7


async def test_no_step_is_made_before_the_last_is_paid_for(world: World):
    world.github.seen = at(7, "a", "b")
    world.at = 0.0
    await world.steps(3)
    assert await world.passes(EVERY_SECONDS / 2) is None


async def test_a_restart_goes_on_where_it_was(world: World):
    world.github.seen = at(7, *(f"r{number:02}" for number in range(20)))
    looked_at: list[str] = []
    for _ in range(30):
        world.restart()
        looked_at += await world.steps(4)
    assert len({*looked_at}) == 20


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
    assert await world.passes(1) is None, "the step is paid for all the same"
    assert sorted(set(await world.steps(60))) == ["a", "b", "c", "d"]


async def test_the_list_is_made_anew_after_a_day(world: World):
    world.github.seen = at(7, "a")
    await world.steps(3)
    world.github.seen = at(7, "b")
    assert set(await world.steps(int(LIST_EVERY_SECONDS // EVERY_SECONDS) - 5)) == {"a"}
    assert set((await world.steps(20))[-5:]) == {"b"}


async def test_an_installation_without_repositories_of_interest_costs_nothing_more(world: World):
    world.github.seen = at(7, "a", owner="stranger")
    assert await world.steps(30) == []
    assert world.github.verbs("repositories") == ["repositories"]


async def test_what_came_back_is_in_turn_too_and_the_others_are_not_listed_anew(world: World):
    world.github.seen = at(7, *(f"r{number:02}" for number in range(20)))
    await world.steps(5)
    world.github.seen += at(8, "x", "y")
    assert [one.name for one in await world.patrol.again(InstallationId(8))] == ["x", "y"]
    assert {"x", "y", "r00"} <= set(await world.steps(100))
    assert world.github.verbs("repositories") == ["repositories"]


async def test_what_came_back_with_less_loses_what_it_had(world: World):
    world.github.seen = [*at(7, "a"), *at(8, "b", "c")]
    await world.steps(20)
    world.github.seen = [*at(7, "a"), *at(8, "c")]
    await world.patrol.again(InstallationId(8))
    assert set(await world.steps(40)) == {"a", "c"}


async def test_another_installation_is_paid_for_twice(world: World):
    """Its token has to be asked for too."""
    world.github.seen = [*at(7, "a"), *at(8, "b")]
    assert 16 <= len(await world.steps(40)) <= 20
