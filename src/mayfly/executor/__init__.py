"""The executor: parks on a machine, takes one claim at a time and runs one runner for it.

A client of the control plane's executor API; it knows no database, no bus and no web framework.

Exit codes:

* 0: the job is done (`once`), or nothing came within `idle_seconds`
* 1: an internal error; or the control plane refuses this executor, or its runner could not start
* 2: the settings cannot be used
* 42: told to shut down by SIGTERM or SIGINT, or by an operator. Idle: at once. At work: when the
  job is finished; a second signal stops the runner and gives the job back.
* with `once`, any other: the runner's own exit code; 128 + N when signal N ended it
"""

from mayfly.executor.loop import OpenDriver, OwnBus, run
from mayfly.executor.patience import Timing
from mayfly.executor.settings import Settings, Token
from mayfly.executor.slots import default_state_dir

__all__ = ["OpenDriver", "OwnBus", "Settings", "Timing", "Token", "default_state_dir", "run"]
