"""Write the tables of properties and fields into docs/analyze.md: python docs/tables.py."""

from pathlib import Path

from denser.analysis.catalogue import CHARGES, FIELDS, PROPERTIES, requirements

PAGE = Path(__file__).with_name("analyze.md")


def tables() -> dict[str, str]:
    """Each block of the page that is made here, by the name in its marks."""
    return {"properties": properties(), "fields": fields()}


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
    """Return the page with its blocks made anew."""
    for name, table in tables().items():
        begin, end = f"<!-- {name}: made by docs/tables.py -->\n", f"<!-- end of {name} -->"
        start, stop = page.index(begin) + len(begin), page.index(end)
        page = page[:start] + table + "\n" + page[stop:]
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
