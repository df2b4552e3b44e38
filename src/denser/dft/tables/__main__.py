"""Make and check all tables of elements.

python -m denser.dft.tables FOLDER [ELEMENT ...]

The tables of the elements (default: all) are made anew in the folder, `src/denser/atoms/tables`;
those of other elements are kept. Each check is a line; the exit code is 1 if one fails.
"""

from __future__ import annotations

import sys
from pathlib import Path

from denser.dft.basis import ELEMENTS
from denser.dft.tables import diffuse, free_atoms, sad, two_centre
from denser.dft.tables.check import checks


def main() -> int:
    """Make the tables, then print the checks."""
    folder, symbols = Path(sys.argv[1]), sys.argv[2:] or list(ELEMENTS)
    unknown = [symbol for symbol in symbols if symbol not in ELEMENTS]
    if unknown:
        sys.stderr.write(f"{unknown[0]} is not in denser.dft.basis.ELEMENTS; add it there\n")
        return 2
    sad.write_tables(folder, symbols)
    diffuse.write_table(folder, symbols)
    free_atoms.write_table(folder, symbols)
    two_centre.write_table(folder, symbols)
    failed = False
    for symbol in symbols:
        for check in checks(folder, symbol):
            failed |= not check.passed
            sys.stdout.write(f"{symbol:2}  {check}\n")
            sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
