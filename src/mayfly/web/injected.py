"""What handlers are given by name: the plane, the telemetry and the open waits."""

from datetime import timedelta
from typing import Annotated, TypeAlias

from litestar.di import NamedDependency, Provide
from litestar.params import PathParameter, QueryParameter, SkipValidation

from mayfly.engine.plane import ControlPlane
from mayfly.telemetry import Telemetry
from mayfly.web.names import LARGEST_ID
from mayfly.web.waits import Waits

GivenPlane: TypeAlias = NamedDependency[SkipValidation[ControlPlane]]
GivenTelemetry: TypeAlias = NamedDependency[SkipValidation[Telemetry]]
GivenWaits: TypeAlias = NamedDependency[SkipValidation[Waits]]
GivenLongest: TypeAlias = NamedDependency[SkipValidation[timedelta]]

PathId: TypeAlias = Annotated[int, PathParameter(ge=1, le=LARGEST_ID)]
Limit: TypeAlias = Annotated[int, QueryParameter(ge=1, le=1000)]


def provided(
    plane: ControlPlane, telemetry: Telemetry, waits: Waits, longest: timedelta
) -> dict[str, Provide]:
    """Litestar's dependencies for these names."""
    return {
        "plane": Provide(lambda: plane, sync_to_thread=False),
        "telemetry": Provide(lambda: telemetry, sync_to_thread=False),
        "waits": Provide(lambda: waits, sync_to_thread=False),
        "longest": Provide(lambda: longest, sync_to_thread=False),
    }
