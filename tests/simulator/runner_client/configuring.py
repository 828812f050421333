"""Becoming a runner: with a registration token, by runner administration, or by a JIT config."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import urlsplit

import httpx
from cryptography.hazmat.primitives.asymmetric import rsa
from msgspec import Struct

from .calls import AGENTS, POOLS, Connection
from .crypto import assertion, from_parameters, public_numbers

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Identity(Struct, kw_only=True):
    """What a runner knows of itself, however it came to it."""

    agent_id: int
    name: str
    pool_id: int
    server_url: str
    client_id: str
    authorization_url: str
    key: rsa.RSAPrivateKey
    algorithm: str = "RS256"
    server_url_v2: str | None = None
    ephemeral: bool = True


async def trade(
    http: httpx.AsyncClient, url: str, token: str, event: str = "register"
) -> dict[str, Any]:
    """The first call: a registration token for the address of the service and a token for it."""
    parts = urlsplit(url)
    response = await http.post(
        f"{parts.scheme}://{parts.netloc}/api/v3/actions/runner-registration",
        headers={"Authorization": f"RemoteAuth {token}"},
        json={"url": url, "runner_event": event},
    )
    response.raise_for_status()
    found: dict[str, Any] = response.json()
    return found


async def configure(
    http: httpx.AsyncClient,
    url: str,
    token: str,
    key: rsa.RSAPrivateKey,
    *,
    name: str = "wired",
    labels: tuple[str, ...] = ("self-hosted", "linux", "amd64"),
    ephemeral: bool = True,
    replace: bool = False,
) -> Identity:
    """Register with a registration token."""
    traded = await trade(http, url, token)
    assert traded["token_schema"] == "OAuthAccessToken"
    if traded["use_v2_flow"]:
        return await _administered(http, url, token, key, name, labels)
    admin = Connection(http, traded["url"], traded["token"])
    pools = (await admin.resource("GET", POOLS)).json()
    assert pools["count"] == len(pools["value"])
    pool_id = next(pool["id"] for pool in pools["value"] if not pool["isHosted"])
    asked = _agent(name, labels, key, ephemeral=ephemeral)
    at = {"poolId": pool_id}
    if replace:
        params = {"agentName": name}
        old = (await admin.resource("GET", AGENTS, "6.0-preview.2", at=at, params=params)).json()
        at["agentId"] = old["value"][0]["id"]
    method = "PUT" if replace else "POST"
    response = await admin.resource(method, AGENTS, "6.0-preview.2", at=at, json=asked)
    # A runner that is known to be in use takes every other success for an empty answer.
    assert response.status_code == 200
    agent = response.json()
    assert (agent["ephemeral"], agent["disableUpdate"]) == (ephemeral, True)
    properties = {key: value["$value"] for key, value in agent["properties"].items()}
    fips = properties.get("RequireFipsCryptography", True)
    return Identity(
        agent_id=agent["id"],
        name=name,
        pool_id=pool_id,
        server_url=traded["url"],
        client_id=agent["authorization"]["clientId"],
        authorization_url=agent["authorization"]["authorizationUrl"],
        key=key,
        algorithm="PS256" if fips or "ServerUrlV2" in properties else "RS256",
        server_url_v2=properties.get("ServerUrlV2") if properties.get("UseV2Flow") else None,
        ephemeral=ephemeral,
    )


def _agent(
    name: str, labels: tuple[str, ...], key: rsa.RSAPrivateKey, *, ephemeral: bool
) -> dict[str, Any]:
    exponent, modulus = public_numbers(key)
    return {
        "Authorization": {"PublicKey": {"Exponent": exponent, "Modulus": modulus}},
        "Labels": [{"ID": 0, "Name": label, "Type": "system"} for label in labels],
        "MaxParallelism": 1,
        "ID": 0,
        "Name": name,
        "Version": "3.0.0",
        "OSDescription": "wire-level client",
        "ProvisioningState": "Provisioned",
        "CreatedOn": "2026-01-02T03:04:05.0000000Z",
        "Ephemeral": ephemeral,
        "DisableUpdate": True,
    }


async def _administered(
    http: httpx.AsyncClient,
    url: str,
    token: str,
    key: rsa.RSAPrivateKey,
    name: str,
    labels: tuple[str, ...],
) -> Identity:
    """Register by the API for runner administration."""
    parts = urlsplit(url)
    rest = f"{parts.scheme}://{parts.netloc}/api/v3"
    path = parts.path.strip("/")
    scope = f"repos/{path}" if "/" in path else f"orgs/{path}"
    headers = {"Authorization": f"RemoteAuth {token}"}
    groups = await http.get(f"{rest}/{scope}/actions/runner-groups", headers=headers)
    group = next(each for each in groups.json()["runner_groups"] if each["default"])
    taken = await http.get(
        f"{rest}/{scope}/actions/runners", headers=headers, params={"name": name}
    )
    assert taken.json()["total_count"] == 0
    exponent, modulus = public_numbers(key)
    asked = {
        "url": url,
        "group_id": group["id"],
        "name": name,
        "version": "2.336.0",
        "updates_disabled": True,
        "ephemeral": True,
        "labels": [{"name": label, "type": "system"} for label in labels],
        "public_key": f"<RSAKeyValue><Modulus>{modulus}</Modulus><Exponent>{exponent}</Exponent>"
        "</RSAKeyValue>",
    }
    made = await http.post(f"{rest}/actions/runners/register", headers=headers, json=asked)
    assert made.status_code == 201, made.text
    authorization = made.json()["authorization"]
    return Identity(
        agent_id=made.json()["id"],
        name=name,
        pool_id=group["id"],
        server_url="",
        client_id=authorization["client_id"],
        authorization_url=authorization["authorization_url"],
        key=key,
        algorithm="PS256",
        server_url_v2=authorization["server_url"],
    )


async def remove(http: httpx.AsyncClient, url: str, token: str, agent_id: int) -> None:
    """Take a registration back."""
    traded = await trade(http, url, token, "remove")
    admin = Connection(http, traded["url"], traded["token"])
    at = {"poolId": 1, "agentId": agent_id}
    await admin.resource("DELETE", AGENTS, "6.0-preview.2", at=at)


def unpack(blob: str) -> dict[str, dict[str, Any]]:
    """The files of a JIT config."""
    outer = json.loads(base64.b64decode(blob, validate=True))
    return {name: json.loads(base64.b64decode(file)) for name, file in outer.items()}


def from_jit_config(blob: str, key: rsa.RSAPrivateKey | None = None) -> Identity:
    """What a JIT config says; a known runner insists on strings in four places."""
    files = unpack(blob)
    runner, credentials = files[".runner"], files[".credentials"]
    strings = ("AgentId", "PoolId", "Ephemeral", "DisableUpdate")
    assert all(isinstance(runner[name], str) for name in strings)
    assert credentials["Scheme"] == "OAuth"
    fips = credentials["Data"]["RequireFipsCryptography"].lower() == "true"
    v2 = str(runner.get("UseV2Flow", "")).lower() == "true"
    return Identity(
        agent_id=int(runner["AgentId"]),
        name=runner["AgentName"],
        pool_id=int(runner["PoolId"]),
        server_url=runner["ServerUrl"],
        client_id=credentials["Data"]["ClientId"],
        authorization_url=credentials["Data"]["AuthorizationUrl"],
        key=key or from_parameters(files[".credentials_rsaparams"]),
        algorithm="PS256" if fips or v2 else "RS256",
        server_url_v2=runner["ServerUrlV2"] if v2 else None,
        ephemeral=runner["Ephemeral"].lower() == "true",
    )


async def authorize(http: httpx.AsyncClient, identity: Identity, **claims: Any) -> str:
    """A listener's token; raises HTTPStatusError for every answer but 200."""
    signed = assertion(
        identity.key,
        identity.client_id,
        identity.authorization_url,
        algorithm=identity.algorithm,
        **claims,
    )
    form = {
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": signed,
        "grant_type": "client_credentials",
    }
    response = await http.post(identity.authorization_url, data=form)
    if response.status_code != 200:
        raise httpx.HTTPStatusError(response.text, request=response.request, response=response)
    return str(response.json()["access_token"])
