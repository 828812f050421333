"""The runner that runs on a board with the settings of `configure_program`, on standard input."""

import asyncio
import base64
import json
import sys
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.simulator.runner_client.configuring import Identity
from tests.simulator.runner_client.listening import Listener
from tests.simulator.runner_client.working import live


async def main() -> int:
    packed = json.loads(base64.b64decode(sys.stdin.readline().strip(), validate=True))
    assert set(packed) == {"settings.json"}
    settings = json.loads(base64.b64decode(packed["settings.json"]))
    agent = settings["agent"]
    key = load_pem_private_key(settings["pem"].encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    identity = Identity(
        agent_id=agent["id"],
        name=agent["name"],
        pool_id=1,
        server_url=settings["server_url"],
        client_id=agent["authorization"]["clientId"],
        authorization_url=agent["authorization"]["authorizationUrl"],
        key=key,
        algorithm="PS256",
    )
    async with httpx.AsyncClient(timeout=40, trust_env=False) as http:
        await live(Listener(http, identity), Path.cwd())
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
