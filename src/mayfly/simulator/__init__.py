"""GitHub in a box: the API, the webhooks and the runners of one App, on a loopback port."""

from mayfly.simulator.faults import ApiRule, Faults, HookRule
from mayfly.simulator.keys import generate_app_key
from mayfly.simulator.program import runner_program
from mayfly.simulator.refusals import Refusal
from mayfly.simulator.server import run, serve
from mayfly.simulator.settings import Account, Settings
from mayfly.simulator.simulation import Dispatched, Simulator

__all__ = [
    "Account",
    "ApiRule",
    "Dispatched",
    "Faults",
    "HookRule",
    "Refusal",
    "Settings",
    "Simulator",
    "generate_app_key",
    "run",
    "runner_program",
    "serve",
]
