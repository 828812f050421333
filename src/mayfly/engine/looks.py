"""Looking at a registration at GitHub: deleting it there is the only race-free question (R6)."""

from mayfly.model.demand import DemandGroup
from mayfly.model.errors import GitHubRefused, RefusalKind, Transient
from mayfly.model.runners import Registration, Sighting
from mayfly.ports import GitHub
from mayfly.telemetry import Telemetry

NO_LONGER_THERE = frozenset({RefusalKind.REPOSITORY_GONE})


async def delete_at_github(
    github: GitHub, registration: Registration, group: DemandGroup, telemetry: Telemetry
) -> Sighting:
    """Delete the runner if GitHub has it and it is idle; what GitHub answered, never an error."""
    try:
        runner_id = registration.github_id
        if runner_id is None:
            found = await github.find_runner(group.installation, group.scope, registration.name)
            if found is None:
                return Sighting.NOT_FOUND
            runner_id = found.id
        return await github.delete_runner(group.installation, group.scope, runner_id)
    except Transient as silence:
        telemetry.github_refused(silence)
        return Sighting.UNREACHABLE
    except GitHubRefused as refused:
        telemetry.github_refused(refused)
        return Sighting.GONE if refused.kind in NO_LONGER_THERE else Sighting.REFUSED
