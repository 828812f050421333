"""Deliberate faults in the engine, to prove that the simulation would notice real ones."""
