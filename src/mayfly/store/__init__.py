"""The ledger and the access rules: one set of transactions over interchangeable tables."""
