"""Build the site: python docs/site/make.py [FOLDER], without network; see `make site`.

The pages are those of docs in the order of nav.toml, README.md (the front page), CONTRIBUTING.md,
CHANGELOG.md and data/README.md, and two that are made here: the commands, as they describe
themselves, and the public names of Python. Pages of docs/uses can be downloaded as notebooks. A
link to a file that is no page becomes text. A broken link is an error.
"""

import json
import posixpath
import re
import shutil
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "data/README.md": "training_data.md",
}
"""Pages that stand outside of docs, and where they are on the site."""

MADE = ("commands.md", "api.md")
HIDDEN = {"package.md"}
"""Pages of docs that are not on the site: this one is for package indexes."""

NAMES = {
    "Densities": (
        "predict", "without_grid", "superposition", "from_smiles", "read", "write", "Predictor",
        "load_model",
    ),
    "What follows from them": (
        "analyze", "atoms_of", "compare", "err_rho", "refine", "show", "Calculator", "pyscf_guess",
        "Embedding", "embed_in_openmm",
    ),
    "Types": ("Structure", "Grid", "Field", "Density", "Recipe", "LabelStore", "InputError"),
}  # fmt: skip
FURTHER = (
    "denser.dft.one_step.one_step",
    "denser.dft.refine.refine",
    "denser.dft.scf.scf",
    "denser.workflows.evaluate.measure.evaluate",
)
"""Functions outside of `denser` itself that the pages use."""

LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])+)\]\(([^()\s]+)\)")
IMAGE = re.compile(r'(<img[^>]*\bsrc=")([^"]+)"')
CODE = re.compile(r"^```(python|sh)\n(.*?)^```\n(?:```\n(.*?)^```\n)?", re.M | re.S)
"""A block of code, and the output that follows it."""


def navigation() -> dict[str, list[str]]:
    """Pages by part of the site, in order."""
    parts = tomllib.loads((ROOT / "docs" / "site" / "nav.toml").read_text())["part"]
    return {part["title"]: part["pages"] for part in parts}


def targets(text: str) -> list[str]:
    """All links and pictures of a page."""
    return [m[2] for m in LINK.finditer(text)] + [m[2] for m in IMAGE.finditer(text)]


def relinked(text: str, source: str, page: str) -> str:
    """Return the text of the file `source` of the repository as the text of the page `page`."""

    def target(link: str) -> str | None:
        if re.match(r"[a-z]+:|#", link):
            return link
        path, _, anchor = link.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if path not in OUTSIDE and not path.startswith("docs/"):
            return None
        uri = OUTSIDE.get(path, path.removeprefix("docs/"))
        relative = posixpath.relpath(uri, posixpath.dirname(page) or ".")
        return relative + (f"#{anchor}" if anchor else "")

    def link(match: re.Match) -> str:
        found = target(match[2])
        return match[1] if found is None else f"[{match[1]}]({found})"

    text = LINK.sub(link, text)
    return IMAGE.sub(lambda m: f'{m[1]}{target(m[2])}"', text)


def commands() -> str:
    """The page of commands."""
    import typer.main

    from denser.cli import app

    parts = ["# Commands", "What `denser COMMAND --help` says, for all commands."]
    for name, command in typer.main.get_command(app).commands.items():
        if hasattr(command, "commands"):
            for sub, one in command.commands.items():
                parts += described(f"denser {name} {sub}", one)
        else:
            parts += described(f"denser {name}", command)
    return "\n\n".join(parts)


def described(title: str, command) -> list[str]:
    """Heading, text, usage and options of a command."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    usage = [title, *(["[OPTIONS]"] if options else [])]
    for argument in arguments:
        word = argument.name.upper() + ("..." if argument.nargs != 1 else "")
        usage.append(word if argument.required else f"[{word}]")
    rows = [(f"`{argument.name.upper()}`", argument.help, "") for argument in arguments]
    for option in options:
        names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
        value = getattr(option.default, "value", option.default)
        shown = "" if value in (None, False, (), []) or callable(value) else f"`{value}`"
        rows.append((names, option.help, shown))
    text = _coded((command.help or "").replace("\b", "").strip())
    return [
        f"## {title}",
        text,
        f"```\n{' '.join(usage)}\n```",
        "\n".join(["| | | default |", "|---|---|---|", *map(_row, rows)]),
    ]


def _row(cells: tuple) -> str:
    names, text, default = (re.sub(r"\s+", " ", cell or "").replace("|", "\\|") for cell in cells)
    return f"| {names} | {_coded(text)} | {default} |"


def _coded(text: str) -> str:
    """The text with names of options as code."""
    parts = text.split("`")  # every second one is code already
    parts[::2] = [re.sub(r"(?<!\w)(--[a-z][a-z0-9-]*)", r"`\1`", part) for part in parts[::2]]
    return "`".join(parts)


def api() -> str:
    """The page of Python names, from their docstrings."""
    import denser

    missing = {name for name in denser.__all__ if not name.startswith("_")}
    missing -= {name for names in NAMES.values() for name in names}
    if missing:
        raise SystemExit(f"make.py: NAMES lacks {', '.join(sorted(missing))}")
    parts = ["# Python", "All names are in `denser` (`import denser`), unless they say where."]
    for title, names in NAMES.items():
        parts.append(f"## {title}")
        parts += [_directive(f"denser.{name}", name[0].isupper()) for name in names]
    parts += ["## Further functions", *(_directive(name, False) for name in FURTHER)]
    return "\n\n".join(parts)


def _directive(name: str, is_class: bool) -> str:
    kind = "autoclass" if is_class else "autofunction"
    members = "\n:members:" if is_class else ""
    return f"```{{eval-rst}}\n.. {kind}:: {name}{members.replace(chr(10), chr(10) + '   ')}\n```"


def notebook(text: str) -> str:
    """A page as a Jupyter notebook (format 4.5), with the outputs that the page shows.

    Commands of the shell become `!command`. Pictures are left out: the cells draw them.
    """
    text = re.sub(r"^<img[^>]*>\n", "", LINK.sub(_outside, text), flags=re.M)
    cells, start = [], 0
    for block in CODE.finditer(text):
        cells.append(_cell("markdown", text[start : block.start()]))
        python = block[1] == "python"
        code = block[2] if python else re.sub(r"^(?=.)", "!", block[2], flags=re.M)
        shown = [{"output_type": "stream", "name": "stdout", "text": block[3]}] if block[3] else []
        cells.append(_cell("code", code) | {"execution_count": None, "outputs": shown})
        start = block.end()
    cells.append(_cell("markdown", text[start:]))
    cells = [cell | {"id": f"cell-{i}"} for i, cell in enumerate(cells) if cell["source"]]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    whole = {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _cell(kind: str, source: str) -> dict:
    return {"cell_type": kind, "metadata": {}, "source": source.strip()}


def _outside(link: re.Match) -> str:
    """A link out of the site as it is, others as text."""
    return link[0] if re.match(r"https?:", link[2]) else link[1]


def toctree() -> str:
    """The order of the pages, for the end of the front page."""
    parts = []
    for title, pages in navigation().items():
        names = "\n".join(page.removesuffix(".md") for page in pages)
        parts.append(f"```{{toctree}}\n:hidden:\n:caption: {title}\n\n{names}\n```")
    return "\n\n".join(parts)


def assemble(folder: Path) -> None:
    """Write the source of the site: all pages, pictures, and the configuration of Sphinx."""
    shutil.rmtree(folder, ignore_errors=True)
    docs = ROOT / "docs"
    shutil.copytree(docs / "images", folder / "images")
    for name in ("conf.py", "site.css", "favicon.svg"):
        shutil.copy(docs / "site" / name, folder / name)
    sources = {f"docs/{path.relative_to(docs)}" for path in docs.glob("**/*.md")}
    pages = {path: path.removeprefix("docs/") for path in sources} | OUTSIDE
    for source, page in pages.items():
        if page not in HIDDEN:
            text = relinked((ROOT / source).read_text(), source, page)
            (folder / page).parent.mkdir(exist_ok=True)
            if page.startswith("uses/"):
                (folder / page).with_suffix(".ipynb").write_text(notebook(text))
                title, rest = text.split("\n", 1)
                text = f"{title}\n[As a notebook]({Path(page).stem}.ipynb)\n{rest}"
            (folder / page).write_text(f"{text}\n{toctree()}\n" if page == "index.md" else text)
    (folder / "commands.md").write_text(commands())
    (folder / "api.md").write_text(api())


def main() -> int:
    """Assemble and build; Sphinx's exit code."""
    from sphinx.cmd.build import main as sphinx

    out = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "site")
    source = ROOT / "build" / "site"
    assemble(source)
    options = ["-q", "-W", "--keep-going", "-b", "html", "-d", str(ROOT / "build" / "doctrees")]
    return sphinx([*options, str(source), str(out)])


if __name__ == "__main__":
    sys.exit(main())
