"""`python -m broadway`."""

from broadway.cli import main

main()
