"""Servers of the tests' own: started from the installed programs, on their own ports and files."""
