"""The control API, second half: what goes wrong, what there is, and waiting for it."""

from __future__ import annotations

import json
from typing import Any

from litestar import Response, delete, get, post, put
from litestar.params import FromPath
from msgspec import Struct, to_builtins

from mayfly.simulator import action_shapes
from mayfly.simulator.account_shapes import Json, moment
from mayfly.simulator.asking import Asked, answer, body_of, word
from mayfly.simulator.control_routes import simulator_of
from mayfly.simulator.faults import Faults
from mayfly.simulator.refusals import Refusal
from mayfly.simulator.simulation import Simulator


class AssignmentAsked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold or release all jobs, or some."""

    held: bool
    jobs: tuple[int, ...] = ()


class WebhookAsked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where deliveries go."""

    url: str | None
    secret: str | None = None
    ping: bool = False


class LimitsAsked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The budgets."""

    rate_limit: int | None = None
    secondary_points_per_minute: int | None = None
    exhausted: bool | None = None
    """True spends what all askers known so far have left, False begins a new hour."""


class EventAsked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Any event, as it is: `payload` goes out unchanged."""

    event: str
    payload: dict[str, Any]
    installation_id: int | None = None
    repository_id: int | None = None


class OdditiesAsked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ways in which GitHub has been seen to differ from itself."""

    reuse_job_ids: bool


class ReleaseAsked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The version of the runner GitHub offers."""

    version: str


@get("/_simulator/state")
async def state(request: Asked) -> Response[Any]:
    simulator = simulator_of(request)
    world = simulator.world
    return answer(
        {
            "jobs": _jobs(simulator),
            "runs": _runs(simulator),
            "runners": _runners(simulator),
            "deliveries": _deliveries(simulator),
            "pending_deliveries": world.deliveries.pending,
            "calls": simulator.calls,
            "check_runs": world.check_runs,
            "tokens": [
                {
                    "installation_id": token.installation_id,
                    "expires_at": moment(token.expires_at),
                    "permissions": token.permissions,
                    "repository_ids": sorted(token.repository_ids or ()),
                }
                for token in world.tokens.issued.values()
            ],
            "held": world.actions.held,
        }
    )


def _jobs(simulator: Simulator) -> list[Json]:
    runs = simulator.world.actions.runs
    return [
        action_shapes.workflow_job(job, runs.run(job.run_id), simulator.world.base)
        | {"status": job.status, "repository": runs.run(job.run_id).repository.full_name}
        for job in runs.jobs.values()
    ]


def _runs(simulator: Simulator) -> list[Json]:
    runs = simulator.world.actions.runs
    return [
        {
            "id": run.id,
            "repository": run.repository.full_name,
            "attempt": run.attempt,
            "event": run.event,
            "status": runs.outcome(run)[0],
            "conclusion": runs.outcome(run)[1],
        }
        for run in runs.runs.values()
    ]


def _runners(simulator: Simulator) -> list[Json]:
    actions = simulator.world.actions
    return [
        action_shapes.runner(runner)
        | {
            "owner": runner.scope.owner,
            "repo": runner.scope.repo,
            "virtual": runner.virtual is not None,
            "session": actions.runners.sessions[runner.id].token is not None,
            "job_id": actions.runs.jobs[runner.job].id if runner.job is not None else None,
        }
        for runner in actions.runners.all.values()
    ]


def _deliveries(simulator: Simulator) -> list[Json]:
    return [
        {
            "id": delivery.id,
            "guid": delivery.guid,
            "event": delivery.event,
            "action": delivery.action,
            "redelivery": delivery.redelivery,
            "status": delivery.status,
            "status_code": delivery.status_code,
            "duration": delivery.duration,
            "delivered_at": moment(delivery.delivered_at),
        }
        for delivery in simulator.world.deliveries.log.values()
    ]


@get("/_simulator/jobs/{job_id:int}")
async def job(request: Asked, job_id: FromPath[int]) -> Response[Any]:
    simulator = simulator_of(request)
    return answer(simulator.job(job_id) | {"log": simulator.log(job_id)})


@get("/_simulator/wait")
async def wait(request: Asked) -> Response[Any]:
    """Hold the call until it is so: 200, or 408 when `timeout` seconds have passed."""
    simulator = simulator_of(request)
    if not await _waited(request, simulator):
        raise Refusal(408, f"not so within the time: {request.url.query}")
    return answer({"ok": True})


async def _waited(request: Asked, simulator: Simulator) -> bool:
    timeout = float(word(request, "timeout") or 30)
    wanted = word(request, "state")
    if (jobs := word(request, "jobs")) is not None:
        return await simulator.wait_jobs(jobs, timeout)
    if (one := word(request, "job")) is not None:
        return await simulator.wait_job(int(one), wanted or "completed", timeout)
    if (run := word(request, "run")) is not None:
        return await simulator.wait_run(int(run), wanted or "completed", timeout)
    if (runner := word(request, "runner")) is not None:
        return await simulator.wait_runner(runner, wanted or "online", timeout)
    if word(request, "deliveries") is not None:
        return await simulator.wait_deliveries(timeout)
    raise Refusal(422, "wait for jobs=, job=, run=, runner= or deliveries=")


@get("/_simulator/faults")
async def get_faults(request: Asked) -> Response[Any]:
    return answer(to_builtins(simulator_of(request).faults))


@put("/_simulator/faults")
async def put_faults(request: Asked) -> Response[Any]:
    simulator = simulator_of(request)
    simulator.faults = await body_of(request, Faults)
    return answer(to_builtins(simulator.faults))


@delete("/_simulator/faults", status_code=204)
async def clear_faults(request: Asked) -> None:
    simulator_of(request).faults = Faults()


@put("/_simulator/assignment", status_code=204)
async def assignment(request: Asked) -> None:
    asked = await body_of(request, AssignmentAsked)
    simulator = simulator_of(request)
    if asked.held:
        simulator.hold(*asked.jobs)
    else:
        simulator.release(*asked.jobs)


@put("/_simulator/webhook", status_code=204)
async def webhook(request: Asked) -> None:
    asked = await body_of(request, WebhookAsked)
    simulator_of(request).set_webhook(asked.url, asked.secret, ping=asked.ping)


@put("/_simulator/limits", status_code=204)
async def limits(request: Asked) -> None:
    asked = await body_of(request, LimitsAsked)
    world = simulator_of(request).world
    if asked.rate_limit is not None:
        world.limits.core = asked.rate_limit
    if asked.secondary_points_per_minute is not None:
        world.limits.points_per_minute = asked.secondary_points_per_minute
    match asked.exhausted:
        case True:
            world.limits.exhaust(world.now().timestamp())
        case False:
            world.limits.refund()
        case None:
            pass


@put("/_simulator/oddities", status_code=204)
async def oddities(request: Asked) -> None:
    asked = await body_of(request, OdditiesAsked)
    simulator_of(request).world.actions.reuse_job_ids = asked.reuse_job_ids


@put("/_simulator/release", status_code=204)
async def release(request: Asked) -> None:
    asked = await body_of(request, ReleaseAsked)
    simulator_of(request).offer(asked.version)


@post("/_simulator/events", status_code=202)
async def send_event(request: Asked) -> Response[Any]:
    """Deliver any payload, signed like the rest."""
    asked = await body_of(request, EventAsked)
    simulator_of(request).world.deliveries.send(
        asked.event,
        asked.payload,
        lane="events",
        installation_id=asked.installation_id,
        repository_id=asked.repository_id,
    )
    return answer({}, 202)


@post("/_simulator/deliveries/{delivery_id:int}/redeliver", status_code=202)
async def redeliver(request: Asked, delivery_id: FromPath[int]) -> Response[Any]:
    simulator_of(request).world.deliveries.redeliver(delivery_id)
    return answer({}, 202)


@get("/_simulator/deliveries/{delivery_id:int}")
async def delivery(request: Asked, delivery_id: FromPath[int]) -> Response[Any]:
    found = simulator_of(request).world.deliveries.get(delivery_id)
    return answer({"headers": found.request_headers, "payload": json.loads(found.payload)})


@post("/_simulator/tokens/expire", status_code=204)
async def expire_tokens(request: Asked) -> None:
    world = simulator_of(request).world
    world.tokens.expire(world.now())


@get("/_simulator/calls")
async def calls(request: Asked) -> Response[Any]:
    return answer(simulator_of(request).calls)


@delete("/_simulator/calls", status_code=204)
async def reset_calls(request: Asked) -> None:
    simulator_of(request).world.calls.clear()


ROUTES = [
    state,
    job,
    wait,
    get_faults,
    put_faults,
    clear_faults,
    assignment,
    webhook,
    limits,
    oddities,
    release,
    send_event,
    redeliver,
    delivery,
    expire_tokens,
    calls,
    reset_calls,
]
