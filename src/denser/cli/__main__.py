"""`python -m denser.cli`."""

from denser.cli import main

main()
