"""How the runner service says no: each of its three parts has a form of its own."""

from __future__ import annotations

from collections.abc import Mapping

from litestar import Request, Response
from litestar.datastructures import State

from mayfly.simulator.refusals import Refusal


class Fault(Exception):
    """An answer other than success, in the form of the part that gives it."""

    def __init__(self, status: int, message: str, body: Mapping[str, object]) -> None:
        super().__init__(message)
        self.status = status
        self.body = dict(body)


def pipelines(status: int, key: str, message: str) -> Fault:
    """The pipelines service; a runner tells the cases apart by `typeKey`."""
    kind = f"GitHub.DistributedTask.WebApi.{key}, GitHub.DistributedTask.WebApi"
    body = {"message": message, "typeName": kind, "typeKey": key, "errorCode": 0, "eventId": 3000}
    return Fault(status, message, {"$id": "1", "innerException": None} | body)


def broker(status: int, kind: str, message: str) -> Fault:
    """The broker; a runner tells the cases apart by `errorKind`."""
    body = {"errorKind": kind, "statusCode": status, "errorMessage": message}
    return Fault(status, message, {"source": "actions-broker-listener"} | body)


def run_service(status: int, message: str) -> Fault:
    """The run service; a runner tells the cases apart by the status."""
    body = {"statusCode": status, "errorMessage": message}
    return Fault(status, message, {"source": "actions-run-service"} | body)


def oauth(error: str, message: str) -> Fault:
    """The token endpoint."""
    return Fault(400, message, {"error": error, "error_description": message})


def unauthorized() -> Fault:
    """No token, or none that opens this: a runner answers with a new one."""
    return pipelines(
        401, "UnauthorizedRequestException", "The user is not authorized to access this resource."
    )


def answer_fault(_: Request[object, object, State], fault: Fault) -> Response[object]:
    return Response(fault.body, status_code=fault.status, media_type="application/json")


def answer_refusal(request: Request[object, object, State], refusal: Refusal) -> Response[object]:
    """What the simulated GitHub refuses, in the words of the pipelines service."""
    keys = {404: "TaskAgentNotFoundException", 409: "TaskAgentExistsException"}
    key = keys.get(refusal.status, "InvalidOperationException")
    # 400 would make a runner fetch a new token and ask again.
    status = 422 if refusal.status == 400 else refusal.status
    return answer_fault(request, pipelines(status, key, refusal.message))
