"""What the simulated GitHub promises, held against GitHub's own description of its API."""
