"""Reading workflow files."""

from __future__ import annotations

import pytest

from mayfly.simulator import Refusal
from mayfly.simulator.workflows import parse

FULL = """
name: CI
on: push
env: {LEVEL: top, DEBUG: true}
jobs:
  build:
    name: Build it
    runs-on: [self-hosted, Linux, team-a]
    env: {LEVEL: job}
    environment: {name: production}
    steps:
      - uses: actions/checkout@v4
      - name: Compile
        run: make
        shell: bash
        working-directory: src
        env: {ONE: 1}
        continue-on-error: true
      - run: |
          echo one
          echo two
        if: always()
  test:
    needs: [build]
    runs-on: ${{ matrix.os }}
    strategy:
      matrix:
        os: [linux, arm]
        n: [1, 2]
        exclude: [{os: arm, n: 2}]
        include: [{os: extra, n: 9}]
    steps:
      - run: echo ${{ matrix.n }}
"""


def test_a_file_is_read_whole() -> None:
    workflow = parse(FULL)
    build = workflow.jobs[0]
    assert workflow.name == "CI"
    assert (build.name, build.labels) == ("Build it", ("self-hosted", "Linux", "team-a"))
    assert build.env == {"LEVEL": "job", "DEBUG": "true"}
    assert build.environment == "production"
    checkout, compiling, last = build.steps
    assert (checkout.name, checkout.run) == ("actions/checkout@v4", None)
    assert (compiling.shell, compiling.working_directory) == ("bash", "src")
    assert (compiling.env, compiling.continue_on_error) == ({"ONE": "1"}, True)
    assert (last.name, last.always) == ("Run echo one", True)


def test_a_matrix_becomes_jobs_with_their_values() -> None:
    jobs = parse(FULL).jobs[1:]
    wanted = ["test (linux, 1)", "test (linux, 2)", "test (arm, 1)", "test (extra, 9)"]
    assert [job.name for job in jobs] == wanted
    assert [job.labels for job in jobs] == [("linux",), ("linux",), ("arm",), ("extra",)]
    assert jobs[3].steps[0].run == "echo 9"
    assert {job.needs for job in jobs} == {("build",)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [", "not YAML"),
        ("name: nothing", "no jobs"),
        ("jobs: {a: {}}", "no runs-on"),
        ("jobs: {a: {runs-on: []}}", "no label"),
        ("jobs: {a: {runs-on: x, needs: b}}", "unknown job 'b'"),
        ("jobs: {a: {runs-on: x, needs: b}, b: {runs-on: x, needs: a}}", "circle"),
        ("jobs: {a: {runs-on: x, steps: [echo]}}", "a step must be a mapping"),
    ],
)
def test_a_wrong_file_is_refused_with_a_reason(text: str, problem: str) -> None:
    with pytest.raises(Refusal, match=problem) as refused:
        parse(text)
    assert refused.value.status == 422
