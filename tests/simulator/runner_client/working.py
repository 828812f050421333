"""Doing a job: its steps run, and what the service has to hear of them."""

from __future__ import annotations

import asyncio
import os
import uuid
from asyncio.subprocess import PIPE, STDOUT
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from .calls import EVENTS, FEED, JOB_REQUESTS, LOGS, RECORDS, Connection
from .listening import Listener

VERSION = "5.1-preview"
NO_LOCK = "00000000-0000-0000-0000-000000000000"
GITHUB_STRINGS = ("event_name", "server_url", "api_url", "graphql_url", "workflow")


class Work:
    """A job in hand."""

    def __init__(self, listener: Listener, job: dict[str, Any], run_service: str | None) -> None:
        self.listener = listener
        self.job = job
        self.run_service = run_service
        endpoint = next(
            each for each in job["resources"]["endpoints"] if each["name"] == "SystemVssConnection"
        )
        token = endpoint["authorization"]["parameters"]["AccessToken"]
        self.connection = Connection(listener.http, endpoint["url"], token)
        self.records: list[dict[str, Any]] = []
        self.at = {
            "scopeIdentifier": job["plan"]["scopeIdentifier"],
            "hubName": job["plan"]["planType"],
            "planId": job["plan"]["planId"],
            "timelineId": job["timeline"]["id"],
        }

    async def renew(self) -> dict[str, Any]:
        """Keep the job."""
        if self.run_service:
            body = {"planId": self.at["planId"], "jobId": self.job["jobId"]}
            url = f"{self.run_service.rstrip('/')}/renewjob"
            response = await self.connection.call("POST", url, json=body)
        else:
            response = await self.listener.connection.resource(
                "PATCH",
                JOB_REQUESTS,
                VERSION,
                at={
                    "poolId": self.listener.identity.pool_id,
                    "requestId": self.job["requestId"],
                },
                params={"lockToken": NO_LOCK},
                json={"RequestID": self.job["requestId"]},
            )
        found: dict[str, Any] = response.json()
        return found

    async def run(self, place: Path) -> str:
        """Run the steps here and report on each; the result of the job."""
        self.records = [self._record(self.job["jobId"], "Job", self.job["jobDisplayName"], 0)]
        for number, step in enumerate(self.job["steps"], 1):
            self.records.append(self._record(step["id"], "Task", step["displayNameToken"], number))
        self.start(self.records[0])
        await self.update()
        failed = False
        for step, record in zip(self.job["steps"], self.records[1:], strict=True):
            if failed and step["condition"] != "always()":
                self.finish(record, "Skipped")
                continue
            self.start(record)
            lines, code = await self._execute(step, place)
            await self.feed(record["ID"], lines)
            record["Log"] = {"ID": await self.upload(lines)}
            self.finish(record, "Succeeded" if code == 0 else "Failed")
            failed = failed or (code != 0 and not step["continueOnError"])
            await self.update()
        result = "Failed" if failed else "Succeeded"
        self.finish(self.records[0], result)
        await self.update()
        return result

    async def _execute(self, step: dict[str, Any], place: Path) -> tuple[list[str], int]:
        assert step["reference"] == {"type": "script"}
        inputs = mapping(step["inputs"])
        env = {"PATH": os.environ["PATH"], "HOME": str(place)}
        for each in self.job["environmentVariables"]:
            env |= mapping(each)
        if step["environment"]:
            env |= mapping(step["environment"])
        shell = inputs.get("shell", "bash")
        process = await asyncio.create_subprocess_exec(
            shell, "-e", "-c", inputs["script"], cwd=place, env=env, stdout=PIPE, stderr=STDOUT
        )
        async with asyncio.timeout(20):
            out, _ = await process.communicate()
        return out.decode().splitlines(), process.returncode or 0

    async def update(self) -> None:
        """Tell the timeline, all of it."""
        body = {"Count": len(self.records), "Value": self.records}
        await self.connection.resource("PATCH", RECORDS, VERSION, at=self.at, json=body)

    async def feed(self, record: str, lines: list[str]) -> None:
        """Lines for whoever watches."""
        body = {"Count": len(lines), "Value": lines, "StepID": record, "StartLine": 1}
        at = self.at | {"recordId": record}
        await self.connection.resource("POST", FEED, VERSION, at=at, json=body)

    async def upload(self, lines: list[str]) -> int:
        """A log file, with a time before every line."""
        at = {key: value for key, value in self.at.items() if key != "timelineId"}
        head = {"Path": f"logs/{uuid.uuid4()}", "CreatedOn": stamp()}
        made = (await self.connection.resource("POST", LOGS, VERSION, at=at, json=head)).json()
        text = "".join(f"{stamp()} {line}\n" for line in lines)
        await self.connection.resource(
            "POST",
            LOGS,
            VERSION,
            at=at | {"logId": made["id"]},
            content=text.encode(),
            headers={"Content-Type": "application/octet-stream"},
        )
        return int(made["id"])

    async def complete(self, result: str) -> httpx.Response:
        """The end of the job."""
        if self.run_service:
            words = {"Succeeded": "succeeded", "Failed": "failed", "Canceled": "canceled"}
            body: dict[str, Any] = {
                "planId": self.at["planId"],
                "jobId": self.job["jobId"],
                "conclusion": words[result],
                "stepResults": [self._result(record) for record in self.records[1:]],
                "annotations": [],
                "billingOwnerId": "1",
            }
            url = f"{self.connection.url}/completejob"
            return await self.connection.call("POST", url, json=body)
        body = {
            "Name": "JobCompleted",
            "JobID": self.job["jobId"],
            "RequestID": self.job["requestId"],
            "Result": result,
        }
        return await self.connection.resource(
            "POST", EVENTS, "2.0-preview.1", at=self.at, json=body
        )

    def _record(self, key: str, kind: str, name: str, order: int) -> dict[str, Any]:
        return {
            "ID": key,
            "Type": kind,
            "Name": name,
            "Order": order,
            "State": "Pending",
            "Result": None,
            "StartTime": "",
            "FinishTime": None,
            "Log": None,
            "ParentID": "" if kind == "Job" else self.job["jobId"],
        }

    def start(self, record: dict[str, Any]) -> None:
        record |= {"State": "InProgress", "StartTime": stamp()[:19]}

    def finish(self, record: dict[str, Any], result: str) -> None:
        record |= {"State": "Completed", "Result": result, "FinishTime": stamp()[:19]}

    def _result(self, record: dict[str, Any]) -> dict[str, Any]:
        return {
            "external_id": record["ID"],
            "number": record["Order"],
            "name": record["Name"],
            "status": record["State"].lower(),
            "conclusion": (record["Result"] or "").lower() or None,
            "started_at": record["StartTime"],
            "completed_at": record["FinishTime"],
        }


def stamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")


def mapping(token: dict[str, Any]) -> dict[str, str]:
    """A mapping token of strings; one that is an expression is shown as it is written."""
    assert token["type"] == 2
    return {entry["key"]: _scalar(entry["value"]) for entry in token["map"]}


def _scalar(value: Any) -> str:
    if isinstance(value, dict):
        assert value["type"] == 3
        return f"${{{{ {value['expr']} }}}}"
    return str(value)


def context(value: Any) -> Any:
    """Context data as plain values."""
    if not isinstance(value, dict):
        return value
    match value["t"]:
        case 1:
            return [context(each) for each in value["a"]]
        case 2:
            return {pair["k"]: context(pair["v"]) for pair in value["d"]}
        case kind:
            raise AssertionError(f"unknown kind of context data {kind}")


async def take(listener: Listener, message: dict[str, Any]) -> Work:
    """From a message to the job behind it, by whatever way it comes."""
    body = listener.opened(message)
    if message["messageType"] == "PipelineAgentJobRequest":
        await listener.delete(message)
        # An unmodified runner deletes it a second time.
        await listener.delete(message)
        work = Work(listener, body, None)
    else:
        assert message["messageType"] == "RunnerJobRequest"
        await listener.acknowledge(body["runner_request_id"])
        work = await acquire(listener, body)
    assert work.job["messageType"] == message["messageType"]
    await work.renew()
    return work


async def acquire(listener: Listener, announced: dict[str, Any]) -> Work:
    """The job itself, from the run service."""
    url = announced["run_service_url"]
    asked = {
        "jobMessageId": announced["runner_request_id"],
        "billingOwnerId": announced["billing_owner_id"],
        "streamId": announced["runner_request_id"],
    }
    response = await listener.connection.call("POST", f"{url.rstrip('/')}/acquirejob", json=asked)
    return Work(listener, response.json(), url)


async def live(listener: Listener, place: Path) -> str:
    """The one life of an ephemeral runner: wait, take a job, run it, report."""
    await listener.open()
    message = None
    while message is None:
        message = await listener.poll()
    work = await take(listener, message)
    result = await work.run(place)
    await work.complete(result)
    return result
