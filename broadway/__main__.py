"""`python -m broadway`."""

from broadway.cli.app import main

main()
