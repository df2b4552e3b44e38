"""`python -m denser`, the same as `denser`."""

from denser.cli import main

main()
