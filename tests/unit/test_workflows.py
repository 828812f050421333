""".github/workflows: what GitHub takes, and nothing that a stranger could turn against us."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

WORKFLOWS = Path(__file__).parents[2] / ".github" / "workflows"
RELEASE = WORKFLOWS / "release-image.yml"
BIN = Path(sys.executable).parent
PINNED = re.compile(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def said(*words: str) -> tuple[int, str]:
    ran = subprocess.run(
        [BIN / words[0], *words[1:]], capture_output=True, text=True, timeout=60, check=False
    )
    return ran.returncode, ran.stdout + ran.stderr


def valid(workflow: Path) -> tuple[int, str]:
    """By GitHub's own schema, which comes with the checker."""
    return said("check-jsonschema", "--builtin-schema", "vendor.github-workflows", str(workflow))


def audited(workflow: Path) -> tuple[int, str]:
    """Injected expressions, too many permissions, actions by a tag, kept credentials, …"""
    return said("zizmor", "--offline", "--no-progress", "--persona=auditor", str(workflow))


@pytest.mark.parametrize("workflow", sorted(WORKFLOWS.iterdir()), ids=lambda path: path.name)
def test_a_workflow_is_valid_and_has_no_known_weakness(workflow: Path):
    assert valid(workflow)[0] == 0, valid(workflow)
    assert audited(workflow)[0] == 0, audited(workflow)


def test_the_checkers_would_say_what_is_wrong(tmp_path: Path):
    weak = tmp_path / "weak.yml"
    weak.write_text(RELEASE.read_text().replace('"$IMAGE@$DIGEST"', '"${{ inputs.image }}"'))
    assert valid(weak)[0] == 0
    code, report = audited(weak)
    assert code != 0
    assert "template-injection" in report
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(RELEASE.read_text().replace("runs-on:", "runs-at:"))
    assert valid(wrong)[0] != 0


def test_every_action_is_pinned_by_a_commit():
    uses = re.findall(r"uses: .*", RELEASE.read_text())
    assert uses
    assert [line for line in uses if not PINNED.fullmatch(line)] == []


def test_the_release_calls_the_build_with_options_it_has():
    build = (WORKFLOWS.parents[1] / "deploy" / "image" / "build").read_text()
    called = RELEASE.read_text().partition("deploy/image/build")[2].partition("\n\n")[0]
    options = set(re.findall(r"(--[a-z0-9-]+)", called))
    assert options == {"--runner", "--runner-version", "--runner-sha256", "--tag"}
    assert all(f"  {option} " in build for option in options)
