"""A root file system of this machine's own programs, small enough to be made for every session."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

_PROGRAMS = (
    *("bash", "cat", "chmod", "date", "env", "grep", "head", "id", "ipcs", "kill", "ln", "ls"),
    *(
        "mkdir",
        "mknod",
        "mount",
        "mv",
        "printf",
        "ps",
        "python3",
        "readlink",
        "rm",
        "rmdir",
        "setsid",
        "sh",
    ),
    *("sleep", "sort", "tail", "tee", "test", "timeout", "touch", "tr", "true", "uname"),
    *("unshare", "wc"),
)
_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
_LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
_PACKAGES = ("collections", "ctypes", "encodings", "importlib", "re")
_EXTENSIONS = ("_ctypes", "_socket", "_struct", "array", "math", "select")
_FILES = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/home/runner:/bin/sh\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
}


def write(archive: Path) -> None:
    """Programs, what they are linked with, and Python's own library."""
    with tarfile.open(archive, "w") as image:
        for name in ("dev", "etc", "mnt", "proc", "run", "sys", "usr", "var"):
            _add(image, name, tarfile.DIRTYPE)
        for name in ("home/runner", "tmp"):
            _add(image, name, tarfile.DIRTYPE, mode=0o1777)
        for name, target in _LINKS.items():
            _add(image, name, tarfile.SYMTYPE, target=target)
        names = {_merged(path): path for path in _linked(_programs())}
        for name, path in sorted(names.items()):
            image.add(path, name, recursive=False)
        for file in _library():
            image.add(file, str(file).lstrip("/"), recursive=False)
        for name, text in _FILES.items():
            _add(image, name, text=text)


def _programs() -> set[str]:
    found = {shutil.which(name, path=_PATH) for name in _PROGRAMS}
    assert None not in found, "every program of the image is on this machine"
    return {str(path) for path in found}


def _linked(programs: set[str]) -> set[str]:
    """With their libraries; every link and what it leads to."""
    extensions = {str(path) for path in _library() if path.suffix == ".so"}
    told = subprocess.run(
        ["ldd", *programs, *extensions], capture_output=True, text=True, check=False
    ).stdout
    libraries = {word for word in told.split() if word.startswith("/") and not word.endswith(":")}
    return {each for path in programs | libraries for each in (path, str(Path(path).resolve()))}


def _library() -> list[Path]:
    asked = "import sysconfig; print(sysconfig.get_path('stdlib'))"
    told = subprocess.run(
        ["/usr/bin/python3", "-c", asked], capture_output=True, text=True, check=True
    )
    root = Path(told.stdout.strip())
    packages = (path for name in _PACKAGES for path in (root / name).rglob("*.py"))
    extensions = (
        path for name in _EXTENSIONS for path in (root / "lib-dynload").glob(f"{name}.*.so")
    )
    return sorted([*root.glob("*.py"), *packages, *extensions])


def _merged(path: str) -> str:
    """/bin and the like are links into /usr."""
    name = path.lstrip("/")
    return name if name.startswith("usr/") else f"usr/{name}"


def _add(
    image: tarfile.TarFile,
    name: str,
    kind: bytes = tarfile.REGTYPE,
    *,
    mode: int = 0o755,
    target: str = "",
    text: str = "",
) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname, entry.size = kind, mode, target, len(text)
    image.addfile(entry, io.BytesIO(text.encode()))
