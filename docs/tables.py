"""Write the tables of the package into the pages in docs: python docs/tables.py."""

from pathlib import Path

from denser.analysis.catalogue import CHARGES, FIELDS, PROPERTIES, requirements
from denser.io.formats import DENSITIES, STRUCTURES

FOLDER = Path(__file__).parent


def pages() -> dict[str, dict[str, str]]:
    """For each page the blocks that are made here, by the name in their marks."""
    return {
        "analyze.md": {"properties": properties(), "fields": fields()},
        "files.md": {"structures": structures(), "densities": densities()},
    }


def structures() -> str:
    """Table of structure formats."""
    rows = ["| endings | format | read by | charge | title | frames | cell |"]
    rows.append("|---|---|---|---|---|---|---|")
    for entry in STRUCTURES:
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


def filled(page: str, blocks: dict[str, str]) -> str:
    """Return the page with its blocks made anew."""
    for name, table in blocks.items():
        begin, end = f"<!-- {name}: made by docs/tables.py -->\n", f"<!-- end of {name} -->"
        start, stop = page.index(begin) + len(begin), page.index(end)
        page = page[:start] + table + "\n" + page[stop:]
    return page


if __name__ == "__main__":
    for name, blocks in pages().items():
        path = FOLDER / name
        path.write_text(filled(path.read_text(), blocks))
