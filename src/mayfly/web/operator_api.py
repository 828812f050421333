"""The operator API: what there is, why a job waits, and what happens now."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Annotated, Final

import msgspec
from litestar import Router, get, post
from litestar.exceptions import ClientException
from litestar.params import FromQuery, QueryParameter
from litestar.response import ServerSentEventMessage, Stream
from litestar.types import Guard

from mayfly.engine.declined import Declined
from mayfly.engine.explanations import Explanation, launches_of
from mayfly.engine.leftovers import runners_at_github
from mayfly.engine.news import News
from mayfly.engine.retries import Retried
from mayfly.model.changes import PoolUse
from mayfly.model.errors import NotFound
from mayfly.model.jobs import JobId, JobState
from mayfly.web.callers import Call
from mayfly.web.injected import GivenPlane, GivenWaits, Limit, PathId
from mayfly.web.names import pool_named
from mayfly.web.problems import Conflict, documented
from mayfly.web.views import (
    GitHubRunnerView,
    JobView,
    PoolView,
    RunnerView,
    StallView,
    github_runner_view,
    job_view,
    pool_view,
    runner_views,
    stall_view,
)
from mayfly.web.waits import Waits

_SEARCHED: Final = 1000
"""Newest jobs looked through when only some states are wanted."""
_PING: Final = timedelta(seconds=15)
"""Proxies close a stream that is silent for about a minute."""
_UNUSED: Final = PoolUse(used=0, queued=0, open=0)

State = Annotated[str | None, QueryParameter(name="state", enum=[state.word for state in JobState])]


@get("/jobs", responses=documented(400, 404))
async def jobs(
    plane: GivenPlane,
    limit: Limit = 100,
    pool: FromQuery[str | None] = None,
    wanted_state: State = None,
) -> list[JobView]:
    """Workflow jobs, newest first; `state` looks through the newest 1,000."""
    wanted = None if wanted_state is None else _state(wanted_state)
    name = None if pool is None else pool_named(plane.pools, pool)
    found = await plane.ledger.jobs(limit if wanted is None else _SEARCHED, name)
    fitting = [job for job in found if wanted is None or job.state is wanted]
    now = plane.clock.now()
    return [job_view(job, now) for job in fitting[:limit]]


@get("/jobs/{job_id:int}", responses=documented(400, 404))
async def job(job_id: PathId, plane: GivenPlane) -> list[JobView]:
    """Every attempt of one workflow job, newest first."""
    attempts = await plane.ledger.attempts(JobId(job_id))
    if not attempts:
        raise NotFound(
            f"job {job_id} is not in the ledger: GitHub has not told of it, or it is long over"
        )
    now = plane.clock.now()
    return [job_view(attempt, now) for attempt in attempts]


@get("/jobs/{job_id:int}/explain", responses=documented(400, 404))
async def explain(job_id: PathId, plane: GivenPlane) -> Explanation:
    """Why the job waits, was refused, or what it got, with the evidence."""
    return await plane.explanations.explain(job_id)


@post("/jobs/{job_id:int}/retry", status_code=200, responses=documented(400, 404, 409, 413, 503))
async def retry(request: Call, job_id: PathId, plane: GivenPlane) -> Retried:
    """Forget the failures of the job's demand group and ring for it; 409 when that is no help."""
    answer = await plane.retries.retry(JobId(job_id), request.auth.name)
    if isinstance(answer, Declined):
        raise Conflict(answer.sentence)
    return answer


@get("/stalled", responses=documented(400))
async def stalled(plane: GivenPlane, limit: Limit = 100) -> list[StallView]:
    """Demand groups that failed so often that they are tried once an hour only, and why."""
    return [stall_view(group, job) for group, job in await plane.retries.stalled(limit)]


@get("/runners", responses=documented(400))
async def runners(
    plane: GivenPlane, limit: Limit = 100, *, live: FromQuery[bool] = True
) -> list[RunnerView]:
    """Claims and their runners, newest first; `live=false` shows the ended ones, too."""
    claims = await plane.ledger.claims(limit, live=live)
    return runner_views(claims, await plane.ledger.unproven())


@get("/runners/github", responses=documented(502, 503))
async def runners_of_github(plane: GivenPlane) -> list[GitHubRunnerView]:
    """Every self-hosted runner GitHub has in the App's installations; finds what was left."""
    found = await runners_at_github(plane.github, plane.ledger, plane.runner_prefix)
    return [github_runner_view(one) for one in found]


@get("/pools", responses=documented())
async def pools(plane: GivenPlane) -> list[PoolView]:
    """Pools as declared, and how they are used."""
    uses = await plane.ledger.pools()
    return [
        pool_view(pool, uses.get(pool.name, _UNUSED), await launches_of(plane.ledger, pool))
        for pool in plane.pools
    ]


@get("/events", media_type="text/event-stream", responses=documented())
async def events(plane: GivenPlane, waits: GivenWaits) -> Stream:
    """What just happened, and then what happens, as server-sent events."""
    return Stream(
        _stream(plane.news, waits),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


def routes(guard: Guard) -> Router:
    """Everything operators call."""
    return Router(
        "/v1",
        route_handlers=[
            *(jobs, job, explain, retry, stalled),
            *(runners, runners_of_github, pools, events),
        ],
        guards=[guard],
        security=[{"bearer": []}],
        tags=["operator"],
    )


async def _stream(news: News, waits: Waits) -> AsyncIterator[bytes]:
    async with news.subscribe() as items:
        async for item in waits.each(items, _PING):
            if item is None:
                yield ServerSentEventMessage(data=None, comment="still here").encode()
            else:
                data = msgspec.json.encode(item)
                yield ServerSentEventMessage(data=data, event=item.event).encode()


def _state(word: str) -> JobState:
    for state in JobState:
        if state.word == word.lower():
            return state
    known = ", ".join(state.word for state in JobState)
    raise ClientException(f"state {word!r} is none of {known}")
