"""Numbers of PostgreSQL's advisory locks, in one list so that no two locks mean the same.

A lock has either two numbers, of which the first is a space of ours, or one, which is a job's id.
"""

SPACE = 7015
"""Single things, by the numbers below."""
MIGRATING = 1
"""One process brings the schema to its newest version, the others wait."""
LEADING = 2
"""Held by the session of the process that leads."""
CLOCK = 3
"""Ledger time is going to be written."""
POOLS = 7016
"""Pools, by a hash of their names."""


class Crossed(Exception):
    """A lock was wanted out of order and was not free: begin again, and take all in order."""
