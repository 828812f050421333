"""What the exit codes of GitHub's runner mean, as a sentence for whoever runs the machine.

Source: Runner.Listener's constants, https://github.com/actions/runner
(src/Runner.Common/Constants.cs). They say nothing about a job: GitHub's own record does.
"""

from collections.abc import Mapping, Sequence

PROGRAM = "Runner.Listener"
ENVIRONMENT: Mapping[str, str] = {"ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE": "1"}
"""Without it a version GitHub refuses ends with 1, as a registration that is gone does."""

_SENTENCES: Mapping[int, str] = {
    1: "GitHub refused it for good: its registration is gone or its configuration is not right",
    2: "something failed that may pass, such as the network; the next claim tries again",
    3: "it wanted to update itself; `mayfly runner install` puts the newest release here",
    4: "it wanted to update itself; `mayfly runner install` puts the newest release here",
    5: "another process uses the same registration; nobody else may be given a JIT config",
    6: "GitHub changed its configuration and it wanted to be started again",
    7: "GitHub refuses this version of the runner; run `mayfly runner install`",
}


def is_githubs(command: Sequence[str]) -> bool:
    """Whether a command ends as GitHub's own runner does, itself or as a shell that becomes it."""
    return any(PROGRAM in word for word in command)


def sentence(command: Sequence[str], code: int) -> str | None:
    """What a code means; None for one that means nothing, and for other programs."""
    return _SENTENCES.get(code) if is_githubs(command) else None


def ended(command: Sequence[str], code: int) -> str:
    """How a command ended, with what that means where it is known."""
    meaning = sentence(command, code)
    return f"ended with exit code {code}" + (f" ({meaning})" if meaning else "")
