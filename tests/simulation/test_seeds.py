"""Whole worlds by their seeds: no promise is broken, and a seed is always the same world."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.plans import drawn
from tests.simulation.running import run

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", range(1, 9))
def test_a_world_full_of_faults_keeps_every_promise(seed: int):
    verdict = run(drawn(seed))
    assert not verdict.violations, "\n".join([*verdict.violations, *verdict.lines[-60:]])
    assert len(verdict.figures.struck) > 10


@pytest.mark.parametrize("seed", range(9, 12))
def test_a_calm_world_wastes_next_to_no_registrations(seed: int):
    verdict = run(drawn(seed, calm=True))
    assert not verdict.violations
    assert verdict.figures.surplus_mints <= 0.05 * verdict.figures.jobs


def test_a_seed_is_the_same_world_twice():
    first, second = (run(drawn(12, jobs=60)) for _ in range(2))
    assert first.lines[-20:] == second.lines[-20:]
    assert first.digest == second.digest


def test_a_seed_is_the_same_world_in_another_process_that_hashes_otherwise():
    digests = [_digest_with(hash_seed) for hash_seed in ("1", "2")]
    assert digests[0] == digests[1]


def _digest_with(hash_seed: str) -> str:
    command = [sys.executable, "-m", "tests.simulation", "--seed", "3"]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=True
    )
    return next(line for line in ended.stdout.splitlines() if line.startswith("digest"))
