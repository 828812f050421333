"""ports.Ledger: which releases of GitHub's runner were seen, and when first."""

from datetime import timedelta

from mayfly.model.releases import Release, Version
from tests.fakes.backends import OpenedStore
from tests.fakes.clocks import NOON

OLD, NEW = Version(2, 99, 7), Version(2, 330, 0)


async def test_no_release_has_been_seen_before_github_was_asked(store: OpenedStore):
    assert await store.ledger.releases() == []


async def test_releases_read_back_by_version_and_not_by_their_letters(store: OpenedStore):
    store.clock.advance(0.007)
    await store.ledger.offered(NEW)
    await store.ledger.offered(OLD)
    seen_at = NOON + timedelta(milliseconds=7)
    assert await store.ledger.releases() == [Release(OLD, seen_at), Release(NEW, seen_at)]


async def test_a_release_keeps_the_time_it_was_seen_first(store: OpenedStore):
    await store.ledger.offered(OLD)
    store.clock.advance(3600)
    await store.ledger.offered(OLD)
    await store.ledger.offered(NEW)
    later = NOON + timedelta(hours=1)
    assert await store.ledger.releases() == [Release(OLD, NOON), Release(NEW, later)]
