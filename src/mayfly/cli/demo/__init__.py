"""`mayfly demo`: the whole way of a job on this machine, with a simulated GitHub."""

from mayfly.cli.demo.show import Wanted, run_demo

__all__ = ["Wanted", "run_demo"]
