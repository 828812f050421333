"""The executor API (`model.protocol`): lease, claim, register, run, finish; bound to pools."""

from datetime import timedelta
from typing import Any, Final

import msgspec
from litestar import Response, Router, get, post
from litestar.datastructures import CacheControlHeader
from litestar.params import FromPath, JSONBody
from litestar.types import Guard

from mayfly.engine.plane import ControlPlane
from mayfly.model.errors import Transient
from mayfly.model.protocol import (
    Attended,
    AttendOrder,
    BootOrder,
    ClaimOrder,
    ConfiguredOrder,
    Entrusted,
    FinishOrder,
    Granted,
    HeartbeatAnswer,
    Leased,
    LeaseOrder,
    Registered,
    SettleOrder,
    StartedAnswer,
    StartedOrder,
)
from mayfly.model.releases import Offer
from mayfly.model.runners import ClaimId
from mayfly.web.callers import Call, bound
from mayfly.web.injected import GivenLongest, GivenPlane, GivenWaits
from mayfly.web.leases import bus_lease, handed_out
from mayfly.web.names import LONGEST_TEXT, check_ids, check_texts, pool_named
from mayfly.web.problems import documented

_NOTHING: Final = "There is nothing to do."


@post(
    "/pools/{pool:str}/lease",
    status_code=200,
    responses=documented(400, 404, 413, 503, empty="Nobody rang in that time."),
)
async def lease(
    request: Call,
    pool: FromPath[str],
    data: JSONBody[LeaseOrder],
    plane: GivenPlane,
    waits: GivenWaits,
    longest: GivenLongest,
) -> Response[Leased]:
    """Wait for a runner request, at most 30 s; ask for a claim next and name the lease."""
    bound(request.auth, pool)
    known = pool_named(plane.pools, pool)
    wait = timedelta(seconds=min(max(0.0, data.wait_seconds), longest.total_seconds()))
    waited = await waits.until(plane.bus.lease(known, wait), request.receive)
    if waited.result is None:
        return Response[Any](None, status_code=204)
    if waited.gone:
        await plane.bus.abandon(waited.result.id)
        return Response[Any](None, status_code=204)
    return Response(Leased(lease=handed_out(known, waited.result.id)))


@post("/pools/{pool:str}/attend", status_code=200, responses=documented(400, 404, 413, 503))
async def attend(
    request: Call,
    pool: FromPath[str],
    data: JSONBody[AttendOrder],
    plane: GivenPlane,
    waits: GivenWaits,
    longest: GivenLongest,
) -> Attended:
    """Say that the executor is there; answered when it shall do something else, or in time."""
    bound(request.auth, pool, data.machine)
    known = pool_named(plane.pools, pool)
    check_texts(machine=data.machine, boot=data.boot)
    wait = timedelta(seconds=min(max(0.0, data.wait_seconds), longest.total_seconds()))
    waited = await waits.until(plane.executors.attend(known, data, wait), request.receive)
    if waited.result is None:
        raise Transient("the control plane is stopping; ask again")
    return waited.result


@post("/leases/complete", status_code=204, responses=documented(400, 413, 503))
async def complete(request: Call, data: JSONBody[SettleOrder], plane: GivenPlane) -> None:
    """Say that a lease's runner request is done with. Idempotent; no effect when it is over."""
    check_texts(lease=data.lease)
    if lease_id := bus_lease(request.auth, data.lease):
        await plane.bus.complete(lease_id)


@post("/leases/abandon", status_code=204, responses=documented(400, 413, 503))
async def abandon(request: Call, data: JSONBody[SettleOrder], plane: GivenPlane) -> None:
    """Give a lease's runner request back at once. Idempotent; no effect when it is over."""
    check_texts(lease=data.lease)
    if lease_id := bus_lease(request.auth, data.lease):
        await plane.bus.abandon(lease_id)


@post(
    "/claims",
    status_code=201,
    responses=documented(400, 404, 413, 422, 503, empty=_NOTHING),
)
async def claim(request: Call, data: JSONBody[ClaimOrder], plane: GivenPlane) -> Response[Granted]:
    """Ask what to do; the same `key` gets the same claim, and the lease is settled with it."""
    bound(request.auth, data.pool, data.machine)
    check_texts(machine=data.machine, boot=data.boot, key=data.key, lease=data.lease or None)
    check_texts(variants="".join(data.variants) or None)
    lease_id = bus_lease(request.auth, data.lease or "")
    granted = await plane.claims.claim(msgspec.structs.replace(data, lease=lease_id))
    if granted is None:
        return Response[Any](None, status_code=204)
    return Response(granted)


@post("/claims/{claim_id:str}/heartbeat", status_code=200, responses=documented(400, 404, 410, 413))
async def heartbeat(
    request: Call, claim_id: FromPath[str], data: JSONBody[BootOrder], plane: GivenPlane
) -> HeartbeatAnswer:
    """Say that the executor lives; the answer may say stop."""
    return await plane.claims.heartbeat(await _own(request, plane, claim_id, data.boot), data.boot)


@post(
    "/claims/{claim_id:str}/registration",
    status_code=201,
    cache_control=CacheControlHeader(no_store=True),
    responses=documented(400, 404, 410, 413, 422, 502, 503),
)
async def register(
    request: Call, claim_id: FromPath[str], data: JSONBody[BootOrder], plane: GivenPlane
) -> Registered:
    """Get a runner minted now. The config is handed out once; asking again mints another."""
    return await plane.claims.register(await _own(request, plane, claim_id, data.boot), data.boot)


@post(
    "/claims/{claim_id:str}/registration-token",
    status_code=201,
    cache_control=CacheControlHeader(no_store=True),
    responses=documented(400, 404, 410, 413, 422, 502, 503),
)
async def entrust(
    request: Call, claim_id: FromPath[str], data: JSONBody[BootOrder], plane: GivenPlane
) -> Entrusted:
    """Get a registration token, for a program that registers the runner under the given name."""
    return await plane.claims.entrust(await _own(request, plane, claim_id, data.boot), data.boot)


@post(
    "/claims/{claim_id:str}/configured",
    status_code=204,
    responses=documented(400, 404, 410, 413, 422, 502, 503),
)
async def configured(
    request: Call, claim_id: FromPath[str], data: JSONBody[ConfiguredOrder], plane: GivenPlane
) -> None:
    """Say that this runner is registered, and that nobody has the token any more. Idempotent."""
    check_ids(generation=data.generation)
    await plane.claims.configured(await _own(request, plane, claim_id, data.boot), data)


@post(
    "/claims/{claim_id:str}/started",
    status_code=200,
    responses=documented(400, 404, 410, 413, 502, 503),
)
async def started(
    request: Call, claim_id: FromPath[str], data: JSONBody[StartedOrder], plane: GivenPlane
) -> StartedAnswer:
    """Ask, before a job's first step, whether this job was admitted."""
    check_texts(repository=data.repository)
    check_ids(run_id=data.run_id, run_attempt=data.run_attempt)
    return await plane.claims.started(await _own(request, plane, claim_id, data.boot), data)


@post("/claims/{claim_id:str}/finish", status_code=204, responses=documented(400, 404, 410, 413))
async def finish(
    request: Call, claim_id: FromPath[str], data: JSONBody[FinishOrder], plane: GivenPlane
) -> None:
    """Say that the executor is done with the claim. Idempotent."""
    detail = "".join(letter if letter.isprintable() else " " for letter in data.detail)
    order = msgspec.structs.replace(data, detail=detail[:LONGEST_TEXT])
    await plane.claims.finish(await _own(request, plane, claim_id, data.boot), order)


@get(
    "/releases",
    cache_control=CacheControlHeader(no_store=True),
    responses=documented(404, 502, 503),
)
async def releases(plane: GivenPlane) -> list[Offer]:
    """Ask which release of GitHub's runner to install; GitHub is asked once in ten minutes."""
    return list(await plane.offers.newest())


def routes(guard: Guard) -> Router:
    """Everything executors call."""
    return Router(
        "/v1",
        route_handlers=[
            *(attend, lease, complete, abandon),
            *(claim, heartbeat, register, entrust, configured, started, finish),
            releases,
        ],
        guards=[guard],
        security=[{"bearer": []}],
        tags=["executor"],
    )


async def _own(request: Call, plane: ControlPlane, claim_id: str, boot: str) -> ClaimId:
    """The claim, when the caller's token is bound to its pool."""
    check_texts(claim=claim_id, boot=boot)
    known, _group = await plane.ledger.claimed(ClaimId(claim_id))
    bound(request.auth, known.pool, known.machine)
    return known.id
