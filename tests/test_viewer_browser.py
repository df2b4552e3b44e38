"""The viewer in a real headless Chromium, driven by Playwright."""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule

import denser
from denser.atoms.sad import superposition
from denser.types.structure import Structure

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
             "--ignore-gpu-blocklist", "--mute-audio")  # fmt: skip

PATIENCE = 300
"""Seconds to wait for what must come; other programs may take the machine meanwhile."""


def need(found: bool, what: str) -> None:
    """Skip, or fail where nothing may be skipped."""
    if not found:
        reason = f"the browser tests need {what}"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


@pytest.fixture(scope="module")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        need(False, "Playwright; pip install playwright")
    need(BROWSER is not None, "Chromium; apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        yield browser
        browser.close()


def blank(browser, width: int = 1020, height: int = 640):
    """An empty page of this size."""
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(1000 * PATIENCE)
    return page


class Served:
    """`denser view` as a process of its own."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "denser", "view", "--no-browser", *arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        line = self.process.stdout.readline()
        if "http" not in line:
            self.process.kill()
            raise AssertionError(line + self.process.communicate()[1])
        self.address = re.search(r"http\S+", line).group()

    def end(self) -> tuple[int, str]:
        """Ctrl-C; exit code and standard error."""
        self.process.send_signal(signal.SIGINT)
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, errors


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("view")
    lines = []
    for d in (0.70, 0.74, 0.78):
        lines += ["2", "", "H 0 0 0", f"H 0 0 {d}"]
    (folder / "scan.xyz").write_text("\n".join(lines) + "\n")
    molecule("CH3OH").write(folder / "methanol.xyz")
    served = Served(str(folder / "methanol.xyz"), str(folder / "scan.xyz"))
    yield served
    code, errors = served.end()
    assert (code, errors) == (0, "")


class Page:
    """What a person does on the page."""

    def __init__(self, page) -> None:
        self.page = page

    def __getattr__(self, name: str):
        return getattr(self.page, name)

    def js(self, code: str):
        """Value of an expression."""
        return self.page.evaluate(code)

    def wait(self, condition: str) -> None:
        """Wait until an expression is true; the page's own policy forbids it to poll for us."""
        end = time.monotonic() + PATIENCE
        while not self.js(condition):
            assert time.monotonic() < end, f"waited in vain for {condition}"
            time.sleep(0.03)

    def drawn(self, act: Callable, messages: int = 1) -> None:
        """Do something and wait until the server's answer is drawn."""
        before = self.js("denser.frames")
        act()
        self.wait(f"denser.frames >= {before + messages}")

    def choose(self, field: str) -> None:
        """Click a field of the list."""
        self.drawn(self.page.locator(f"[data-field='{field}']").click)

    def set_range(self, name: str, value: int) -> None:
        """Move a slider."""
        move = f"s = document.getElementById('{name}'); s.value = {value}; s.oninput()"
        self.drawn(lambda: self.js(f"{{ const {move} }}"))

    def pixels(self) -> np.ndarray:
        """Colours of the canvas (n, 4) uint8."""
        raw = self.js(
            """() => {
                denser.scene.render();
                const gl = document.querySelector('#canvas canvas');
                const copy = document.createElement('canvas');
                [copy.width, copy.height] = [200, 200];
                const flat = copy.getContext('2d');
                flat.drawImage(gl, 0, 0, 200, 200);
                const data = flat.getImageData(0, 0, 200, 200).data;
                return btoa(Array.from(data, (c) => String.fromCharCode(c)).join(''));
            }"""
        )
        return np.frombuffer(base64.b64decode(raw), dtype=np.uint8).reshape(-1, 4)

    def covered(self) -> float:
        """Share of the canvas that shows something."""
        pixels = self.pixels()[:, :3].astype(int)
        return float((np.abs(pixels - pixels[0]).sum(axis=1) > 12).mean())

    def place(self, atom: int) -> tuple[float, float]:
        """Where an atom is on the screen."""
        place = self.js(f"denser.scene.screen([denser.scene.atoms.positions[{atom}]])[0]")
        return place["x"], place["y"]

    def message(self, where: str) -> str:
        """Sentence beside an action."""
        return self.page.locator(f".message[data-for={where}]").inner_text()

    def value(self, label: str) -> str:
        """Number in the panel."""
        return self.page.locator("#values tr", has_text=label).locator(".value").inner_text()

    def download(self, what: str, folder: Path) -> Path:
        """Press one of the buttons of the download menu."""
        if not self.js("document.getElementById('download').open"):
            self.page.locator("#download summary").click()
        with self.page.expect_download() as waiting:
            self.page.locator(what).click()
        path = folder / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path


@pytest.fixture
def new_page(browser, served: Served):
    pages, complaints = [], []

    def open_page(address: str = served.address) -> Page:
        page = blank(browser)
        pages.append(page)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda r: complaints.append(r.url) if outside(r.url) else None)
        page.goto(address)
        page = Page(page)
        page.wait("window.denser && denser.ready && !denser.state.charges_wanted")
        return page

    def outside(url: str) -> bool:
        return not url.startswith((served.address.split("?")[0], "data:", "blob:"))

    yield open_page
    for page in pages:
        page.close()
    assert complaints == []  # no error in a script, and nothing asked of the network


def test_surface_changes_with_the_isovalue(new_page):
    page = new_page()
    assert page.title() == "CH4O - denser"
    assert page.value("Electrons") == "14.0000"
    start = page.covered()
    assert 0.02 < start < 0.6
    page.set_range("level", 100)
    assert page.covered() > 1.5 * start
    assert page.message("surface") == ""
    page.choose("none")
    bare = page.covered()
    assert 0 < bare < start


def test_fields_slices_and_styles(new_page):
    page = new_page()
    seen = [page.pixels()]
    for field, key in (
        ("deformation", "+0.003 e/bohr\u00b3"), ("coloured", "kcal/mol"), ("laplacian", "Laplacian")
    ):  # fmt: skip
        page.choose(field)
        assert page.message("surface") == ""
        assert key in page.inner_text("#scale")
        seen.append(page.pixels())
    page.choose("none")
    page.drawn(page.locator("#slice").check)
    seen.append(page.pixels())
    page.set_range("offset", 12)
    seen.append(page.pixels())
    for i, a in enumerate(seen):
        for b in seen[:i]:
            assert (a != b).any(axis=1).mean() > 0.004
    page.keyboard.press("d")
    page.keyboard.press("l")
    assert page.js("denser.scene.shapes.dipole.length") == 1
    assert page.js("denser.scene.viewer.labels.length") == 6


def test_dragging_an_atom_moves_density_and_numbers(new_page):
    page = new_page()
    page.keyboard.press("e")
    before, dipole, charges = page.pixels(), page.value("Dipole"), page.inner_text("#charges")
    start = page.js("denser.scene.atoms.positions")
    oxygen = page.js("denser.state.structure.symbols.indexOf('O')")
    x, y = page.place(oxygen)
    page.mouse.move(x, y)
    page.mouse.down()
    page.drawn(lambda: page.mouse.move(x + 12, y - 4))
    page.drawn(lambda: page.mouse.move(x + 18, y - 8, steps=3))
    page.wait("denser.state.draft")
    assert "draft" in page.inner_text("#status")
    assert page.js("denser.roundTrip") > 0
    during = page.value("Dipole")
    assert during != dipole
    page.mouse.up()
    page.wait("!denser.state.draft && denser.state.can_undo && !denser.state.charges_wanted")
    assert page.value("Dipole") != dipole
    assert float(page.value("Dipole")) == pytest.approx(float(during), abs=0.06)
    assert page.inner_text("#charges") != charges
    assert (page.pixels() != before).any(axis=1).mean() > 0.01
    end = page.js("denser.state.structure.positions")
    shift = np.subtract(end, start)
    assert np.linalg.norm(shift[oxygen]) > 0.05
    # the atom went where the mouse went
    there = page.place(oxygen)
    assert there == pytest.approx((x + 18, y - 8), abs=2.5)
    assert np.abs(np.delete(shift, oxygen, axis=0)).max() < 1e-4
    page.drawn(lambda: page.keyboard.press("Control+z"))
    assert page.value("Dipole") == dipole
    assert page.js("denser.state.structure.positions") == start
    # dragging beside an atom turns the view and moves no atom
    page.mouse.move(280, 520)
    page.mouse.down()
    page.mouse.move(380, 480, steps=4)
    page.mouse.up()
    assert page.js("denser.state.structure.positions") == start
    assert page.place(oxygen) != pytest.approx((x, y), abs=3)


def test_selecting_measuring_and_editing(new_page):
    page = new_page()
    symbols = page.js("denser.state.structure.symbols")
    carbon, oxygen = symbols.index("C"), symbols.index("O")
    page.mouse.click(*page.place(carbon))
    page.mouse.click(*page.place(oxygen))
    assert "1.4" in page.inner_text("#measure")
    page.locator("#sketch").click()
    page.drawn(lambda: page.keyboard.press("]"))
    assert page.message("sketch") == ""
    page.keyboard.press("Escape")
    page.mouse.click(*page.place(oxygen))
    page.locator("#elements button", has_text=re.compile("^N$")).click()
    page.drawn(page.locator("#change").click)
    assert page.inner_text("#formula") == "CH5N"
    page.drawn(page.locator("#remove").click)
    assert page.inner_text("#formula") == "CH4"
    for _ in range(3):
        page.drawn(page.locator("#undo").click)
    assert page.inner_text("#formula") == "CH4O"
    page.drawn(page.locator("#charge-up").click)
    assert "odd number" in page.message("molecule")
    page.drawn(page.locator("#charge-down").click)
    assert page.message("molecule") == ""


def test_files_come_out_and_read_back(new_page, tmp_path: Path):
    page = new_page()
    cube = denser.read(page.download("[data-file='field/density.cube']", tmp_path))
    assert cube.integrate() == pytest.approx(14.0, abs=1e-3)
    assert cube.structure.formula == "CH4O"
    ccp4 = denser.read(page.download("[data-file='field/density.ccp4']", tmp_path))
    assert ccp4.integrate() == pytest.approx(14.0, abs=1e-2)
    numbers = json.loads(page.download("[data-file='numbers.json']", tmp_path).read_text())
    shown = {row["key"]: row["value"] for row in numbers["numbers"]}
    assert shown["dipole_debye"] == pytest.approx(np.linalg.norm(cube.dipole()) * 2.5417, abs=0.01)
    assert "charge_e" in page.download("[data-file='numbers.csv']", tmp_path).read_text()
    png = page.download("#png", tmp_path).read_bytes()
    assert png[:4] == b"\x89PNG"
    assert len(png) > 5000
    page.choose("deformation")
    difference = denser.read(page.download("[data-file='field/deformation.npz']", tmp_path))
    assert difference.integrate() == pytest.approx(0.0, abs=1e-3)


def test_smiles_files_and_what_is_wrong_with_them(new_page, tmp_path: Path):
    pytest.importorskip("rdkit")
    page = new_page()

    def build(smiles: str) -> None:
        page.fill("#smiles", smiles)
        page.keyboard.press("Enter")

    page.drawn(lambda: build("CCO"))
    assert page.inner_text("#formula") == "C2H6O"
    build("C1CC")
    page.wait("document.querySelector('.message[data-for=open]').textContent")
    assert "cannot be parsed" in page.message("open")
    (tmp_path / "broken.xyz").write_text("3\n\nO 0 0\n")
    page.set_input_files("#file", tmp_path / "broken.xyz")
    page.wait(
        "document.querySelector('.message[data-for=open]').textContent.includes('broken.xyz')"
    )
    (tmp_path / "uranium.xyz").write_text("2\n\nU 0 0 0\nH 0 0 2\n")
    page.drawn(lambda: page.set_input_files("#file", tmp_path / "uranium.xyz"))
    assert "not supported" in page.message("molecule")
    assert page.inner_text("#status") == "no density"
    assert page.inner_text("#formula") == "HU"
    rows = [f"H {i} {j} 0" for i in range(26) for j in range(26)]
    (tmp_path / "large.xyz").write_text("\n".join([str(len(rows)), "", *rows]) + "\n")
    page.set_input_files("#file", tmp_path / "large.xyz")
    page.wait("document.querySelector('.message[data-for=open]').textContent.includes('up to')")
    water = Structure.from_ase(molecule("H2O"))
    from denser.types.grid import Grid

    denser.write(tmp_path / "sad.cube", superposition(water, Grid.around(water, 5.0, 0.3)))
    page.drawn(lambda: page.set_input_files("#file", tmp_path / "sad.cube"))
    assert page.message("open") == ""
    assert "from the file" in page.inner_text("#source-text")
    page.choose("minus_prediction")
    assert page.message("surface") == ""


def test_frames_play(new_page):
    page = new_page()
    assert page.locator("#item option").count() == 4
    page.drawn(lambda: page.select_option("#item", "1"))
    page.drawn(page.locator("#play").click, messages=4)
    page.locator("#play").click()
    page.wait("!denser.state.draft")
    distances = set()
    for item in ("1", "2", "3"):
        page.drawn(lambda item=item: page.select_option("#item", item))
        distances.add(round(page.js("denser.state.structure.positions[1][2]"), 2))
    assert distances == {0.70, 0.74, 0.78}


def test_one_step_gives_energy_and_orbitals(new_page):
    page = new_page()
    page.drawn(lambda: page.select_option("#item", "2"))
    page.drawn(page.locator("#one-step").click)
    assert float(page.value("Energy")) == pytest.approx(-1.16, abs=0.02)
    row = page.locator("#values tr", has_text="Energy")
    assert row.get_attribute("data-source") == "one step"
    assert page.locator("#values tr", has_text="Electrons").get_attribute("data-source") == (
        "prediction"
    )
    page.choose("orbital:homo")
    homo = page.pixels()
    page.drawn(lambda: page.select_option("#orbital", "orbital:lumo"))
    assert page.message("surface") == ""
    assert (page.pixels() != homo).any(axis=1).mean() > 0.01


def test_critical_points(new_page):
    page = new_page()
    page.drawn(page.locator("#points").check, messages=2)
    assert "5 bond" in page.inner_text("#points-text")
    assert "complete" in page.inner_text("#points-text")


def test_two_tabs_at_once(new_page):
    first, second = new_page(), new_page()
    second.locator("#sketch").click()
    second.mouse.click(*second.place(second.js("denser.state.structure.symbols.indexOf('O')")))
    second.js("denser.element = 'F'")
    second.drawn(lambda: second.keyboard.press("c"))
    first.drawn(lambda: first.js("document.getElementById('level').oninput()"))
    assert second.inner_text("#formula") == "CH3F"
    assert first.inner_text("#formula") == "CH4O"


def test_wrong_token_is_refused(browser, served: Served):
    page = blank(browser)
    answer = page.goto(re.sub(r"token=.*", "token=wrong", served.address))
    assert answer.status == 403
    assert "token" in page.inner_text("body")
    assert page.goto(served.address.split("?")[0]).status == 403
    page.close()


def test_empty_sketchpad(browser):
    served = Served()
    page = Page(blank(browser, 1280, 800))
    page.goto(served.address)
    page.wait("window.denser && denser.ready")
    assert page.is_visible("#empty")
    page.drawn(page.locator("[data-example=CCO]").click)
    assert not page.is_visible("#empty")
    assert page.covered() > 0.02
    page.close()
    assert served.end() == (0, "")


def test_notebook_view_draws(browser, tmp_path: Path):
    from denser.types.grid import Grid
    from denser.viewer.notebook import show

    water = Structure.from_ase(molecule("H2O"))
    view = show(superposition(water, Grid.around(water, 6.0, 0.3)))
    (tmp_path / "notebook.html").write_text(f"<body>{view._repr_html_()}</body>")
    page = blank(browser, 800, 500)
    page.goto((tmp_path / "notebook.html").as_uri())
    frame = Page(page.frames[1])
    frame.wait("window.denser")
    end = time.monotonic() + PATIENCE
    while not 0.02 < (start := frame.covered()) < 0.7:  # until the canvas has its size
        assert time.monotonic() < end, f"{start:.1%} of the canvas is covered"
    frame.js("{ const s = document.getElementById('level'); s.value = 1; s.oninput() }")
    assert frame.covered() > 1.2 * start
    page.close()
