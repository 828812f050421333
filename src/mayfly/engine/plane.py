"""The control plane in one piece, and the edge reflector in one, for whoever serves them."""

from typing import NamedTuple

from mayfly.engine.claims import Claims
from mayfly.engine.executors import Executors
from mayfly.engine.explanations import Explanations
from mayfly.engine.intake import Intake
from mayfly.engine.news import News
from mayfly.engine.offers import Offers
from mayfly.engine.reflecting import EdgeIntake
from mayfly.engine.retries import Retries
from mayfly.engine.tickets import Tickets
from mayfly.model.pools import Pool
from mayfly.ports import AccessRules, Clock, GitHub, Ledger, OperableBus


class ControlPlane(NamedTuple):
    """Built by the composition root, served by the web."""

    pools: tuple[Pool, ...]
    ledger: Ledger
    access: AccessRules
    bus: OperableBus
    clock: Clock
    github: GitHub
    intake: Intake
    claims: Claims
    executors: Executors
    explanations: Explanations
    retries: Retries
    offers: Offers
    news: News
    tickets: Tickets
    runner_prefix: str = "mayfly"


class Edge(NamedTuple):
    """The reflector alone, without a ledger and without the App's key."""

    pools: tuple[Pool, ...]
    access: AccessRules
    bus: OperableBus
    clock: Clock
    intake: EdgeIntake
    news: News
