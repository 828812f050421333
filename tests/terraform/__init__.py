"""deploy/terraform under the real terraform, with providers that have a schema and no more."""
