"""News: recent items, then every new one."""

import asyncio

import pytest
import structlog

from mayfly.engine.news import BEHIND, KEPT, News
from tests.fakes.clocks import NOON, ManualClock


async def test_a_reader_gets_the_past_and_then_what_happens():
    news = News(ManualClock())
    news.whisper("job.admitted", job=1)
    async with news.subscribe() as items:
        news.whisper("job.admitted", job=2)
        async with asyncio.timeout(30):
            found = [await anext(items), await anext(items)]
    assert [item.fields for item in found] == [{"job": 1}, {"job": 2}]
    assert {item.at for item in found} == {NOON}


async def test_only_the_latest_of_the_past_are_kept():
    news = News(ManualClock())
    for number in range(KEPT + 5):
        news.whisper("job.admitted", job=number)
    async with news.subscribe() as items:
        assert (await anext(items)).fields == {"job": 5}


async def test_a_slow_reader_loses_the_oldest_and_holds_nobody_up():
    news = News(ManualClock())
    async with news.subscribe() as items:
        for number in range(BEHIND + 5):
            news.whisper("job.admitted", job=number)
        assert (await anext(items)).fields == {"job": 5}


async def test_a_reader_that_left_is_forgotten():
    news = News(ManualClock())
    with pytest.raises(RuntimeError, match="the browser is gone"):
        async with news.subscribe():
            raise RuntimeError("the browser is gone")
    assert news._readers == {}


async def test_published_news_are_logged_and_whispers_are_not():
    news = News(ManualClock())
    with structlog.testing.capture_logs() as entries:
        news.publish("claim.made", claim="c1")
        news.whisper("job.admitted", job=1)
    assert entries == [{"event": "claim.made", "claim": "c1", "log_level": "info"}]
