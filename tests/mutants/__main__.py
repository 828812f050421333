"""`python -m tests.mutants`: every deliberate fault is caught, or this says which one is not."""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATCHES = Path(__file__).parent
COPIED = ("src", "tests", "pyproject.toml")
AT_ONCE = 2
TRACES = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "tests/simulation")
TRACES_SECONDS = 300
SEEDS_SECONDS = 600
FAILED_TEST = re.compile(r"^FAILED \S+::(\S+)", re.MULTILINE)
FAILED_SEED = re.compile(r"--seed (\d+)")


def main() -> int:
    """0 when the healthy code passes and every fault is caught."""
    options = _options()
    chosen = [patch for patch in sorted(PATCHES.glob("*.patch")) if options.only in patch.name]
    if not chosen:
        print(f"no patch in {PATCHES} has {options.only!r} in its name")
        return 1
    if unfit := unfitting():
        print(f"these patches fit the code no longer; renew them: {', '.join(unfit)}")
        return 1
    with _copy() as healthy:
        if (complaint := _caught(healthy, options.seeds)) is not None:
            print(f"the code as it is does not pass: {complaint}")
            return 1
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = pool.map(lambda patch: _tried(patch, options.seeds), chosen)
        survived = 0
        for patch, caught in zip(chosen, results, strict=True):
            survived += caught is None
            print(f"{_title(patch):68}  {caught or 'NOT CAUGHT'}", flush=True)
    print(f"{len(chosen) - survived} of {len(chosen)} faults caught")
    return 1 if survived else 0


def unfitting() -> list[str]:
    """The patches that cannot be applied to the code as it is."""
    with _copy() as copy:
        return [
            patch.name
            for patch in sorted(PATCHES.glob("*.patch"))
            if not _apply(patch, copy, "--check")
        ]


def _apply(patch: Path, copy: Path, *options: str) -> bool:
    command = ("git", "apply", *options, str(patch))
    return subprocess.run(command, cwd=copy, capture_output=True, check=False).returncode == 0


def _title(patch: Path) -> str:
    """The rule it breaks, in words: its first line."""
    return patch.read_text().partition("\n")[0]


def _tried(patch: Path, seeds: int) -> str | None:
    with _copy() as copy:
        if not _apply(patch, copy):
            raise SystemExit(f"{patch.name} fits the code no longer; renew it")
        return _caught(copy, seeds)


def _caught(copy: Path, seeds: int) -> str | None:
    """Which aimed trace or which seed fails; None when all pass."""
    traces = _run(copy, TRACES, TRACES_SECONDS)
    if traces is None:
        return "an aimed trace that never ends"
    if traces.returncode:
        return f"trace {_named(FAILED_TEST, traces.stdout)}"
    random = ("-m", "tests.simulation", "--seeds", str(seeds), "--processes", "1")
    run = _run(copy, random, SEEDS_SECONDS)
    if run is None:
        return "a seed that never ends"
    if run.returncode:
        return f"seed {_named(FAILED_SEED, run.stdout)}"
    return None


def _named(pattern: re.Pattern[str], output: str) -> str:
    """What failed; a patch that breaks the program itself proves nothing."""
    found = pattern.search(output)
    if found is None:
        raise SystemExit(f"this is no verdict of the simulation:\n{output[-2000:]}")
    return found[1]


def _run(
    copy: Path, arguments: tuple[str, ...], seconds: float
) -> subprocess.CompletedProcess[str] | None:
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        return subprocess.run(
            (sys.executable, *arguments),
            cwd=copy,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None


@contextmanager
def _copy() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mayfly-mutant-") as directory:
        copy = Path(directory)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                unwanted = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, copy / name, ignore=unwanted)
            else:
                shutil.copy(source, copy / name)
        yield copy


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--seeds", type=int, default=24, help="after the aimed traces")
    parser.add_argument("--only", default="", help="faults whose name contains this")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
