"""`python -m tests.terraform.checkov`: what checkov finds in deploy/terraform without a reason.

It brings 300 MB of its own, which is why it is no part of `make test`.
"""

import json
import shlex
import subprocess
import sys
from typing import Any

from tests.terraform.stage import MODULES, environment

OPTIONS = shlex.split(
    "--framework terraform --skip-path /tests/ --skip-download --compact --output json"
)
FEWEST = 20
"""Checks that pass; fewer mean that it has not looked."""


def main() -> int:
    """0 when nothing is found in what may be applied, and each exception has its sentence."""
    report = _report()
    results, passed = report["results"], report["summary"]["passed"]
    wrong = [f"{one['check_id']} {one['resource']}" for one in results["failed_checks"]]
    for one in results["skipped_checks"]:
        reason = one["check_result"]["suppress_comment"].strip()
        print(f"{one['check_id']} {one['resource']}: {reason}")
        if not reason.endswith("."):
            wrong.append(f"{one['check_id']} {one['resource']} is skipped without a sentence")
    if passed < FEWEST:
        wrong.append(f"only {passed} checks passed")
    print(f"{passed} passed, {len(results['skipped_checks'])} skipped with a reason")
    print("\n".join(wrong))
    return int(bool(wrong))


def _report() -> dict[str, Any]:
    python = environment("checkov") / "bin" / "python"
    command = [str(python), "-m", "checkov.main", "--directory", str(MODULES), *OPTIONS]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return dict(json.loads(ran.stdout))


if __name__ == "__main__":
    sys.exit(main())
