"""The command line: commands, settings, and the only place where the parts are put together."""
