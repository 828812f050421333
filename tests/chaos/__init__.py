"""Chaos: real processes are killed all the time, and no workflow job is lost by it."""
