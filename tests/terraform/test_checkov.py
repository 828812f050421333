"""deploy/terraform: checkov, in an environment of its own."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.terraform.stage import MODULES, environment


@pytest.mark.timeout(400)
def test_checkov_finds_nothing_without_a_reason(tmp_path: Path):
    """In what may be applied; what the modules' own tests make stays on paper."""
    python = environment("checkov") / "bin" / "python"
    command = [str(python), "-m", "checkov.main", "--directory", str(MODULES)]
    command += shlex.split(
        "--framework terraform --skip-path /tests/ --skip-download --compact --output json"
    )
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path
    )
    report = json.loads(ran.stdout)
    wrong = [f"{one['check_id']} {one['resource']}" for one in report["results"]["failed_checks"]]
    assert wrong == []
    assert report["summary"]["passed"] > 20
    skipped = report["results"]["skipped_checks"]
    reasons = {one["check_result"]["suppress_comment"].strip() for one in skipped}
    assert all(reason.endswith(".") for reason in reasons), reasons
