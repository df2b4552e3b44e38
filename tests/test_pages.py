"""Pages: their figures are those of results.json and of the shipped model, links lead on."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from denser.model.predictor import Predictor

ROOT = Path(__file__).parents[1]
RESULTS = json.loads((ROOT / "docs" / "results.json").read_text())
HISTORY = {"CHANGELOG.md", "docs/laboratory.md"}
"""Pages that may tell of older models."""


def module(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def tables():
    return module("docs/tables.py")


@pytest.fixture(scope="module")
def site():
    return module("docs/site/make.py")


@pytest.fixture(scope="module")
def recording():
    return module("benchmarks/recording.py")


def texts() -> dict[str, str]:
    """All pages by their paths."""
    paths = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    paths += [*(ROOT / "docs").glob("**/*.md"), *(ROOT / "data").glob("**/*.md")]
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in paths}


def test_pages_have_the_tables_of_the_package_and_the_figures_of_results(tables):
    for path in tables.pages():
        assert tables.filled(path.read_text()) == path.read_text(), f"{path.name}: run `make docs`"


def test_a_changed_figure_would_be_seen(tables):
    page = (ROOT / "README.md").read_text()
    mean = f"{RESULTS['accuracy']['figures']['all']['err_rho_percent']['model']['mean']:.3f}"
    assert mean in page
    assert tables.filled(page.replace(mean, "0.100")) == page


def test_no_line_begins_with_the_comment_of_a_figure():
    """Markdown ends the paragraph there."""
    bad = {
        path: line[:60]
        for path, text in texts().items()
        for line in text.splitlines()
        if re.match(r"<!-- [\w.]+:\S* -->", line)
    }
    assert bad == {}


def test_results_are_those_of_the_shipped_model(recording):
    """Whoever ships other weights measures again: `python benchmarks/... --results`."""
    dipole = recording.acetamide_dipole(Predictor("default"))
    assert any("acetamide_dipole_debye" in record["model"] for record in RESULTS.values())
    for name, record in RESULTS.items():
        known = record["model"].get("acetamide_dipole_debye", dipole)
        assert abs(known - dipole) < 2e-4, f"{name} is of another model: {record['command']}"


def test_results_say_where_they_come_from():
    assert {"accuracy", "kinds", "one_step", "speed", "scaling", "charges"} <= set(RESULTS)
    for name, record in RESULTS.items():
        assert (ROOT / record["command"].split()[1]).exists(), name
        assert record["date"] and record["machine"]["processor"] and record["versions"]["denser"]
        assert record["figures"]
        assert " /" not in record["command"]


def test_only_the_history_tells_of_older_models():
    for path, text in texts().items():
        if path not in HISTORY:
            found = re.findall(
                r"[^.|]*\b(?:model|weights|default)s?\s+(?:file\s+)?of\s+0\.\d+[^.|]*", text
            )
            assert not found, f"{path}: {found}"


def test_a_record_is_added_beside_the_others(recording, tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"other": {"figures": 1}}))
    labels = tmp_path / "labels"
    labels.mkdir()
    argv = ["/x/kinds.py", "--labels", str(labels), "--results", str(path), "--only", "acetate"]
    monkeypatch.setattr(sys, "argv", argv)
    recording.record(None, "kinds", {"error": 1})
    assert set(json.loads(path.read_text())) == {"other"}
    recording.record(path, "kinds", {"error": 1 / 3, "rows": [(1, None)]}, threads=2)
    records = json.loads(path.read_text())
    assert records["other"] == {"figures": 1}
    assert records["kinds"]["figures"] == {"error": 0.333333, "rows": [[1, None]]}
    assert (
        records["kinds"]["command"] == "python benchmarks/kinds.py --labels labels --only acetate"
    )
    assert records["kinds"]["machine"]["threads"] == 2


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs" / "uses").glob("*.md")), ids=lambda p: p.stem
)
def test_notebooks_have_the_code_of_their_pages(site, page):
    text = page.read_text()
    cells = json.loads(site.notebook(text))["cells"]
    code = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
    blocks = re.findall(r"^```(?:python|sh)\n(.*?)\n```$", text, re.M | re.S)
    assert len(code) == len(blocks) > 0
    for cell, block in zip(code, blocks, strict=True):
        assert cell.replace("!denser ", "denser ") == block
    prose = "\n".join(cell["source"] for cell in cells if cell["cell_type"] == "markdown")
    assert prose.startswith("# ") and "<img" not in prose and ".md" not in prose


def test_outputs_of_a_notebook_are_those_of_its_page(site):
    page = "# A\n[b](b.md), [c](https://c)\n```sh\ndenser x\n\ndenser y\n```\n```\n1\n```\nend\n"
    first, code, last = json.loads(site.notebook(page))["cells"]
    assert first["source"] == "# A\nb, [c](https://c)" and last["source"] == "end"
    assert code["source"] == "!denser x\n\n!denser y"
    assert code["outputs"] == [{"output_type": "stream", "name": "stdout", "text": "1\n"}]


def test_every_page_is_in_the_navigation_of_the_site_once(site):
    listed = [page for pages in site.navigation().values() for page in pages]
    assert len(listed) == len(set(listed))
    docs = ROOT / "docs"
    pages = {path.relative_to(docs).as_posix() for path in docs.glob("**/*.md")}
    pages |= {*site.MADE, *site.OUTSIDE.values()} - {"index.md"}
    assert set(listed) == pages - site.HIDDEN


def slugs(text: str) -> set[str]:
    """Anchors of the headings of a page, as code hosts and the site make them."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    found = set()
    for heading in re.findall(r"^#{1,4} (.*)$", text, re.M):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        found.add(re.sub(r"[^\w\- ]", "", words).replace(" ", "-"))
    return found


def test_links_of_pages_lead_somewhere(site):
    pages = texts()
    for path, text in pages.items():
        for link in site.targets(text):
            if re.match(r"[a-z]+:", link):
                continue
            target, _, anchor = link.partition("#")
            file = (ROOT / path).parent / target if target else ROOT / path
            assert file.resolve().is_relative_to(ROOT) and file.exists(), f"{path}: {link}"
            if anchor:
                name = file.resolve().relative_to(ROOT).as_posix()
                assert anchor in slugs(pages[name]), f"{path}: {link}"


def test_pages_for_the_site_have_links_to_pages_only(site):
    text = "[a](docs/files.md#x), [b](LICENSE), [c](CONTRIBUTING.md), [d](mailto:x@y.z) "
    text += '<img src="docs/images/esp.png">'
    expected = "[a](files.md#x), b, [c](contributing.md), [d](mailto:x@y.z) "
    assert site.relinked(text, "README.md", "index.md") == expected + '<img src="images/esp.png">'
    assert (
        site.relinked("[a](../files.md)", "docs/tasks/ion.md", "tasks/ion.md") == "[a](../files.md)"
    )
    assert site.relinked("[a](../README.md)", "docs/files.md", "files.md") == "[a](index.md)"


def test_the_page_of_commands_has_all_of_them(site):
    page = site.commands()
    assert "## denser predict" in page and "## denser labels pack" in page
    assert "`--smiles`" in page and "denser predict [OPTIONS] [FILES...]" in page
    prose = "".join(re.sub(r"```.*?```", "", page, flags=re.S).split("`")[::2])
    assert not re.search(r"--[a-z]", prose)  # typesetters make a dash of it


def test_the_source_of_the_site_is_whole(site, tmp_path):
    """All pages of the navigation are there, and all links between them lead on."""
    site.assemble(tmp_path / "source")
    source = tmp_path / "source"
    for pages in site.navigation().values():
        assert all((source / page).exists() for page in pages)
    for path in source.glob("**/*.md"):
        for link in site.targets(path.read_text()):
            target = link.partition("#")[0]
            if target and not re.match(r"[a-z]+:", link):
                assert (path.parent / target).exists(), f"{path.name}: {link}"


def test_pages_name_no_folder_of_a_machine():
    for path, text in texts().items():
        assert not re.search(r"(?<![\w.~-])/(?:home|root|tmp|work|mnt)/", text), path
