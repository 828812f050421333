"""How executors of elastic pools start: a backend is a platform."""
