"""Write tables and figures into README.md and the pages in docs: python docs/tables.py.

A table stands between `<!-- NAME: made by docs/tables.py -->` and `<!-- end of NAME -->`. A figure
within a sentence stands between `<!-- PATH:FORMAT -->` and `<!-- -->`, where PATH leads to a number
in `results.json`: `<!-- accuracy.all.err_rho_percent.model.mean:.3f -->0.179<!-- -->`.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import measured

from denser.analysis.catalogue import CHARGES, FIELDS, PROPERTIES, requirements
from denser.io.formats import DENSITIES, STRUCTURES, TRAJECTORY

FOLDER = Path(__file__).parent
TABLE = re.compile(r"(<!-- (\w+): made by docs/tables.py -->\n)(.*?)(<!-- end of \2 -->)", re.S)
FIGURE = re.compile(r"(<!-- ([^:<>]+\.[^:<>]+):([+,.\d]*[a-z]) -->)(.*?)(<!-- -->)")


def pages() -> list[Path]:
    """All pages that may hold tables or figures."""
    return [FOLDER.parent / "README.md", *sorted(FOLDER.glob("**/*.md"))]


def tables() -> dict[str, Callable[[], str]]:
    """All tables by the name in their marks."""
    package = (properties, fields, structures, densities)
    return {function.__name__: function for function in package} | measured.TABLES


def structures() -> str:
    """Table of structure formats."""
    rows = ["| endings | format | read by | charge | title | frames | cell |"]
    rows.append("|---|---|---|---|---|---|---|")
    for entry in (*STRUCTURES, TRAJECTORY):
        cells = (entry.title, entry.library, entry.charge, entry.name, entry.frames, entry.cell)
        rows.append(f"| {_code(entry.endings)} | {' | '.join(cells)} |")
    return "\n".join(rows)


def densities() -> str:
    """Table of density formats."""
    rows = ["| endings | format | read by | unit | holds |", "|---|---|---|---|---|"]
    for entry in DENSITIES.values():
        cells = (entry.title, entry.library, entry.unit, entry.holds)
        rows.append(f"| {_code(entry.endings)} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _code(endings: tuple[str, ...]) -> str:
    return f"`{' '.join(endings)}`"


def properties() -> str:
    """Table of properties."""
    rows = ["| option | what | needs |", "|---|---|---|"]
    for name, entry in PROPERTIES.items():
        option = f"--charges {name}" if name in CHARGES else f"--{name}"
        rows.append(f"| `{option}` | {entry.help} | {', '.join(requirements(entry))} |")
    return "\n".join(rows)


def fields() -> str:
    """Table of fields."""
    rows = ["| `--field` | what | unit | needs |", "|---|---|---|---|"]
    for name, entry in FIELDS.items():
        needs = ", ".join(requirements(entry))
        rows.append(f"| `{name}` | {entry.help} | {entry.unit} | {needs} |")
    return "\n".join(rows)


def filled(page: str) -> str:
    """Return the page with its tables and figures made anew."""
    known = tables()
    page = TABLE.sub(lambda m: f"{m[1]}{known[m[2]]()}\n{m[4]}", page)
    return FIGURE.sub(lambda m: f"{m[1]}{measured.figure(m[2]):{m[3]}}{m[5]}", page)


if __name__ == "__main__":
    for path in pages():
        path.write_text(filled(path.read_text()))
