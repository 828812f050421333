"""GitHub's runner as it is downloaded: an archive; what is inside is the simulated runner."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import NamedTuple

from mayfly.simulator import runner_program

VERSION = "2.336.0"
DOTNET = {
    "Newtonsoft.Json/13.0.3": {"type": "package"},
    "runtimepack.Microsoft.NETCore.App.Runtime.linux-x64/8.0.11": {"type": "runtimepack"},
    "Runner.Listener/2.336.0": {"type": "project"},
}
"""What the official one says it is made of, in the file that .NET reads."""


class Archive(NamedTuple):
    path: Path
    sha256: str


def written(directory: Path) -> Archive:
    """An archive with GitHub's name and an owner of its own, as the official one."""
    program = runner_program(directory / "program").read_bytes()
    files = {
        "./bin/Runner.Listener": (program, 0o755),
        "./bin/Runner.Listener.deps.json": (json.dumps({"libraries": DOTNET}).encode(), 0o644),
    }
    path = directory / f"actions-runner-linux-x64-{VERSION}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid, entry.gid = len(content), mode, 1001, 1001
            archive.addfile(entry, io.BytesIO(content))
    return Archive(path, hashlib.sha256(path.read_bytes()).hexdigest())
