"""`python -m mayfly`."""

from mayfly.cli.main import main

main()
