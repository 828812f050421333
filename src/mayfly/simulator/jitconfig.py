"""The JIT config: three files in a blob, as GitHub hands them to a runner."""

from __future__ import annotations

import base64
import json

from mayfly.simulator.account_shapes import Json
from mayfly.simulator.runners import Session


def encode(files: dict[str, Json], session: Session, base: str) -> str:
    """base64 of a JSON object that maps file names to their base64 contents.

    `files` has the data of the credentials alone.
    """
    # For the simulator's own runner, which signs nothing; others do not look at it.
    own: Json = {"SimulatorUrl": f"{base}/_runner/", "Token": session.registration}
    credentials: Json = {"Scheme": "OAuth", "Data": files[".credentials"] | own}
    packed = files | {".credentials": credentials}
    return _base64(json.dumps({name: _base64(json.dumps(body)) for name, body in packed.items()}))


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
