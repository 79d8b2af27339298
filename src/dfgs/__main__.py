"""`python -m dfgs`."""

from dfgs.cli import main

main()
