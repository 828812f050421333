"""Workflow files: the usual subset of GitHub's syntax, read into plans."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import yaml
from msgspec import Struct, field

from mayfly.simulator.refusals import Refusal

Yaml: TypeAlias = Any
"""Whatever a file may hold; each reader below looks before it takes."""

EXPRESSION = re.compile(r"\$\{\{\s*matrix\.([\w-]+)\s*\}\}")


class Step(Struct, frozen=True, kw_only=True):
    """One step; one without `run` does nothing here."""

    name: str
    run: str | None = None
    shell: str | None = None
    working_directory: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    continue_on_error: bool = False
    always: bool = False
    """Written `if: always()`: it runs after a failed step too."""


class JobPlan(Struct, frozen=True, kw_only=True):
    """One workflow job as the file describes it, its matrix resolved."""

    key: str
    name: str
    labels: tuple[str, ...]
    steps: tuple[Step, ...] = ()
    needs: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    environment: str | None = None
    always: bool = False
    """Written `if: always()`: it runs though one of its needs failed."""


class Workflow(Struct, frozen=True, kw_only=True):
    """A workflow file."""

    name: str
    jobs: tuple[JobPlan, ...]


def parse(text: str) -> Workflow:
    """Read a workflow file; raises Refusal 422 with a sentence on what is wrong."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Refusal(422, f"the workflow is not YAML: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("jobs"), dict):
        raise Refusal(422, "the workflow has no jobs")
    env = _strings(document.get("env"))
    plans = [p for key, job in document["jobs"].items() for p in _plans(str(key), job, env)]
    _check_needs(plans)
    return Workflow(name=str(document.get("name") or "workflow"), jobs=tuple(plans))


def _plans(key: str, job: Yaml, env: dict[str, str]) -> list[JobPlan]:
    if not isinstance(job, dict) or "runs-on" not in job:
        raise Refusal(422, f"job {key!r} has no runs-on")
    combinations = list(_combinations((job.get("strategy") or {}).get("matrix")))
    if not combinations:
        return [_plan(key, job, env, "")]
    return [
        _plan(key, _substitute(job, values), env, f" ({', '.join(values.values())})")
        for values in combinations
    ]


def _plan(key: str, job: Mapping[str, Yaml], env: dict[str, str], suffix: str) -> JobPlan:
    named = str(job.get("name") or key)
    environment = job.get("environment")
    if isinstance(environment, dict):
        environment = environment.get("name")
    return JobPlan(
        key=key,
        # GitHub adds the matrix values unless the name was written out.
        name=named if "name" in job else named + suffix,
        labels=_labels(job["runs-on"]),
        steps=tuple(_step(step) for step in job.get("steps") or ()),
        needs=_words(job.get("needs")),
        env=env | _strings(job.get("env")),
        environment=str(environment) if environment else None,
        always="always()" in str(job.get("if", "")),
    )


def _step(step: Yaml) -> Step:
    if not isinstance(step, dict):
        raise Refusal(422, "a step must be a mapping")
    run = step.get("run")
    title = step.get("name") or (f"Run {str(run).splitlines()[0]}" if run else step.get("uses"))
    return Step(
        name=str(title or "Run"),
        run=None if run is None else str(run),
        shell=step.get("shell"),
        working_directory=step.get("working-directory"),
        env=_strings(step.get("env")),
        continue_on_error=bool(step.get("continue-on-error", False)),
        always="always()" in str(step.get("if", "")),
    )


def _labels(runs_on: Yaml) -> tuple[str, ...]:
    if isinstance(runs_on, dict):
        runs_on = runs_on.get("labels")
    labels = _words(runs_on)
    if not labels:
        raise Refusal(422, "runs-on names no label")
    return labels


def _combinations(matrix: Yaml) -> Iterable[dict[str, str]]:
    if not isinstance(matrix, dict):
        return
    axes = {k: v for k, v in matrix.items() if isinstance(v, list) and k not in _MATRIX_WORDS}
    excluded = [_strings(e) for e in matrix.get("exclude") or ()]
    if axes:
        for values in itertools.product(*axes.values()):
            found = {str(k): _scalar(v) for k, v in zip(axes, values, strict=True)}
            if not any(e.items() <= found.items() for e in excluded):
                yield found
    for extra in matrix.get("include") or ():
        yield _strings(extra)


_MATRIX_WORDS = frozenset({"include", "exclude"})


def _substitute(value: Yaml, matrix: Mapping[str, str]) -> Yaml:
    match value:
        case str():
            return EXPRESSION.sub(lambda m: matrix.get(m[1], ""), value)
        case list():
            return [_substitute(item, matrix) for item in value]
        case dict():
            return {k: _substitute(v, matrix) for k, v in value.items()}
        case _:
            return value


def _check_needs(plans: list[JobPlan]) -> None:
    known = {plan.key for plan in plans}
    done: set[str] = set()
    for plan in plans:
        for need in plan.needs:
            if need not in known:
                raise Refusal(422, f"job {plan.key!r} needs the unknown job {need!r}")
    while ready := {p.key for p in plans if p.key not in done and done.issuperset(p.needs)}:
        done |= ready
    if done != known:
        raise Refusal(422, f"jobs need each other in a circle: {sorted(known - done)}")


def _words(value: Yaml) -> tuple[str, ...]:
    match value:
        case None:
            return ()
        case list():
            return tuple(_scalar(item) for item in value)
        case _:
            return (_scalar(value),)


def _strings(value: Yaml) -> dict[str, str]:
    return {str(k): _scalar(v) for k, v in value.items()} if isinstance(value, dict) else {}


def _scalar(value: Yaml) -> str:
    # YAML's booleans are lower case in a workflow's environment.
    return str(value).lower() if isinstance(value, bool) else str(value)
