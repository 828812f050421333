"""The stages of a workflow job's way; they share the ledger and the bus, and nothing else."""
