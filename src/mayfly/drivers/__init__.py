"""How one runner runs on this machine: a module per driver, with `Settings` and `open_driver`.

`open_driver(settings, home, started)` is an async context manager that gives a `ports.Driver`.
`home` is a directory that belongs to this executor alone; `started` asks the control plane whether
the workflow job that began was admitted.
"""
