"""HTTP as a runner speaks it: a token, a retry with a new one, and resources found by GUID."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

POOLS = "a8c47e17-4d56-4a56-92bb-de7ea7dc65be"
AGENTS = "e298ef32-5878-4cab-993c-043836571f42"
SESSIONS = "134e239e-2df3-4794-a6f6-24f1f19ec8dc"
MESSAGES = "c3a054f6-7a8a-49c0-944e-3a8e5d7adfd7"
JOB_REQUESTS = "fc825784-c92a-4299-9221-998a02d1b54f"
RECORDS = "8893bc5b-35b2-4be7-83cb-99e683551db4"
LOGS = "46f5667d-263a-4684-91b1-dff7fdcf64e2"
FEED = "858983e4-19bd-4c5e-864c-507b59b58b12"
EVENTS = "557624af-b29e-4c20-8ab0-0399d2204f3f"
JOB_MESSAGES = "25adab70-1379-4186-be8e-b643061ebe3a"
TIMELINES = "83597576-cc2c-453c-bea6-2882ae6a1653"
ATTACHMENTS = "7898f959-9cdf-4096-b29e-7f293031629e"
PACKAGES = "8ffcd551-079c-493a-9c02-54346299d144"
UPDATES = "8cc1b02b-ae49-4516-b5ad-4f9b29967c30"

Authorize = Callable[[], Awaitable[str]]


class Refused(Exception):
    """An answer other than success."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"{response.status_code} {response.text}")
        self.status = response.status_code
        self.body: dict[str, Any] = response.json() if response.content else {}


class NoDefinition(Exception):
    """The service does not say where a resource is; an unmodified runner crashes here."""


class Connection:
    """One address with the token for it; what it offers is asked once."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        url: str,
        token: str | None = None,
        authorize: Authorize | None = None,
    ) -> None:
        self.http = http
        self.url = url.rstrip("/")
        self.token = token
        self.authorize = authorize
        self.statuses: list[int] = []
        self._definitions: dict[str, str] | None = None

    async def call(self, method: str, url: str, **options: Any) -> httpx.Response:
        """One call; 400 and 401 are answered with a new token, once."""
        response = await self._once(method, url, **options)
        if response.status_code in {400, 401} and self.authorize is not None:
            self.token = await self.authorize()
            response = await self._once(method, url, **options)
        if not response.is_success:
            raise Refused(response)
        return response

    async def _once(self, method: str, url: str, **options: Any) -> httpx.Response:
        headers = dict(options.pop("headers", {}))
        if self.token:
            headers["Authorization"] = f"bearer {self.token}"
        response = await self.http.request(method, url, headers=headers, **options)
        self.statuses.append(response.status_code)
        return response

    async def resource(
        self, method: str, guid: str, version: str = "", **options: Any
    ) -> httpx.Response:
        """A call to a resource; `at` fills the placeholders of its path."""
        at = {key: str(value) for key, value in options.pop("at", {}).items()}
        params = dict(options.pop("params", {}))
        if version:
            params["api-version"] = version
        url = self.url + expanded(await self.place(guid), at)
        return await self.call(method, url, params=params, **options)

    async def place(self, guid: str) -> str:
        if self._definitions is None:
            params = {
                "connectOptions": 1,
                "lastChangeId": -1,
                "lastChangeId64": -1,
                "api-version": "1.0",
            }
            answer = await self.call("GET", f"{self.url}/_apis/connectionData", params=params)
            listed = answer.json()["locationServiceData"]["serviceDefinitions"]
            self._definitions = {each["identifier"]: each["relativePath"] for each in listed}
        try:
            return self._definitions[guid]
        except KeyError:
            raise NoDefinition(guid) from None


def expanded(template: str, at: dict[str, str]) -> str:
    """The path; a placeholder without a value goes with the slashes before it."""

    def fill(match: re.Match[str]) -> str:
        value = at.get(match[2])
        return "" if value is None else match[1] + value

    return re.sub(r"(/*)\{([^}]+)\}", fill, template)
