"""Mayfly gives every queued GitHub Actions workflow job one fresh self-hosted runner."""
