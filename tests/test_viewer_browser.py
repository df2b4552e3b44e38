"""The viewer in a real headless Chromium, driven by Playwright.

Most tests share one browser, one server in this process and one page, which is set back before
each of them. The grids are coarse, and the window is small: Chromium draws with the processor.
"""

import base64
import io
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
from threading import Thread
from urllib.request import urlopen

import numpy as np
import pytest
from ase.build import molecule
from PIL import Image

import denser
from denser.atoms.sad import superposition
from denser.model.predictor import Predictor
from denser.types.grid import Grid
from denser.types.structure import Structure

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
from denser.viewer import session
from denser.viewer.items import read_items
from denser.viewer.notebook import show
from denser.viewer.server import Viewer, bind

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


def blank(browser, width: int = 1020, height: int = 420):
    """An empty page of this size."""
    page = browser.new_page(
        viewport={"width": width, "height": height},
        device_scale_factor=0.5,
        reduced_motion="reduce",  # an animation would draw all the time
    )
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


class Here:
    """The server in a thread of this process, with molecules on coarse grids."""

    def __init__(self, folder: Path) -> None:
        import uvicorn

        lines = []
        for d in (0.70, 0.74, 0.78):
            lines += ["2", "", "H 0 0 0", f"H 0 0 {d}"]
        (folder / "scan.xyz").write_text("\n".join(lines) + "\n")
        molecule("CH3OH").write(folder / "methanol.xyz")
        items = [i for name in ("methanol", "scan") for i in read_items(folder / f"{name}.xyz")]
        listener = bind("127.0.0.1", 0)
        port = listener.getsockname()[1]
        self.viewer = Viewer(items, Predictor("default", "cpu"), "secret", port)
        self.address = f"http://127.0.0.1:{port}/?token=secret"
        config = uvicorn.Config(
            self.viewer.app(), ws="none", lifespan="off", log_level="critical", access_log=False
        )
        self.server = uvicorn.Server(config)
        self.thread = Thread(target=self.server.run, kwargs={"sockets": [listener]})
        self.thread.start()

    def end(self) -> None:
        """Stop the server."""
        self.server.should_exit = True
        self.thread.join(PATIENCE)
        self.viewer.quick.close()
        self.viewer.slow.close()


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Iterator[Here]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "MAX_NODES", 100_000)
        here = Here(tmp_path_factory.mktemp("view"))
        yield here
        here.end()


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

    def picture_of(self, where: str) -> np.ndarray:
        """Pixels (height, width, 3) of an element."""
        raw = self.page.locator(where).screenshot()
        return np.asarray(Image.open(io.BytesIO(raw)).convert("RGB"))

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


RESET = """() => {
    const $ = (id) => document.getElementById(id);
    Object.assign(denser, { levels: {}, opacities: {}, field: 'density', selection: [] });
    for (const id of ['slice', 'dipole', 'points', 'mesh', 'colour-atoms']) $(id).checked = false;
    for (const id of ['labels', 'style', 'plane']) $(id).selectedIndex = 0;
    for (const message of document.querySelectorAll('.message')) message.textContent = '';
    if (denser.sketching) $('sketch').click();
    $('slice').onchange();
    $('reset').click();
}"""


class Pages:
    """Opens pages, and keeps what goes wrong in their scripts or is asked of other servers."""

    def __init__(self, browser, address: str) -> None:
        self.browser, self.address = browser, address
        self.complaints: list[str] = []

    def open(self) -> Page:
        page = blank(self.browser)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda r: self.asked(r.url))
        page.goto(self.address)
        page = Page(page)
        page.wait("window.denser && denser.ready && !denser.state.charges_wanted")
        return page

    def asked(self, url: str) -> None:
        if not url.startswith((self.address.split("?")[0], "data:", "blob:")):
            self.complaints.append(url)


@pytest.fixture(scope="module")
def pages(browser, here: Here) -> Pages:
    return Pages(browser, here.address)


@pytest.fixture(scope="module")
def one_page(pages: Pages) -> Page:
    return pages.open()


@pytest.fixture
def page(pages: Pages, one_page: Page) -> Iterator[Page]:
    """The one page, with methanol and everything as at the beginning."""
    one_page.page.evaluate(RESET)
    one_page.drawn(lambda: one_page.page.select_option("#item", "0"))
    one_page.wait("denser.state.item === 0 && !denser.state.charges_wanted && !denser.working")
    yield one_page
    assert pages.complaints == []  # no error in a script, and nothing asked of the network


def test_surface_changes_with_the_isovalue(page):
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


def test_fields_slices_and_styles(page):
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


def test_learnt_values_label_and_colour_the_atoms(page):
    before = page.pixels()
    page.drawn(lambda: page.page.select_option("#labels", "f_minus"))
    texts = page.js("denser.scene.viewer.labels.map((l) => l.text)")
    oxygen = page.js("denser.state.structure.symbols.indexOf('O')")
    assert sum(map(float, texts)) == pytest.approx(1, abs=0.03)
    assert float(texts[oxygen]) == max(map(float, texts)) > 0.5
    labelled = page.pixels()
    page.locator("#colour-atoms").check()
    coloured = page.pixels()
    assert (labelled != before).any(axis=1).mean() > 0.002
    assert (coloured != labelled).any(axis=1).mean() > 0.002
    page.drawn(page.locator("#charge-up").click)
    assert "closed shell" in page.message("atoms")
    assert page.js("denser.scene.viewer.labels.length") == 0
    page.drawn(page.locator("#undo").click)
    page.wait("denser.scene.viewer.labels.length === 6")
    assert page.message("atoms") == ""


def test_narrow_windows_keep_the_numbers(page):
    size = page.page.viewport_size
    for width, height in ((900, 500), (420, 700)):
        page.page.set_viewport_size({"width": width, "height": height})
        assert page.value("Electrons") == "14.0000"
        for panel in ("#show", "#numbers", "#stage"):
            box = page.locator(panel).bounding_box()
            assert box["width"] > 150
            assert box["height"] > 100
            assert box["x"] + box["width"] <= width + 1
    page.page.set_viewport_size(size)


def test_dragging_an_atom_moves_density_and_numbers(page):
    page.keyboard.press("e")
    before, dipole, charges = page.pixels(), page.value("Dipole"), page.inner_text("#charges")
    start = page.js("denser.scene.atoms.positions")
    oxygen = page.js("denser.state.structure.symbols.indexOf('O')")
    x, y = page.place(oxygen)
    page.mouse.move(x, y)
    page.mouse.down()
    page.drawn(lambda: page.mouse.move(x + 12, y - 4))
    page.drawn(lambda: page.mouse.move(x + 18, y - 8, steps=3))
    page.wait("denser.state.draft && !denser.working")
    assert "draft" in page.inner_text("#status")
    assert page.js("denser.roundTrip") > 0
    during = page.value("Dipole")
    assert during != dipole
    page.mouse.up()
    page.wait("!denser.state.draft && denser.state.can_undo && !denser.state.charges_wanted")
    assert page.value("Dipole") != dipole
    assert float(page.value("Dipole").split()[0]) == pytest.approx(
        float(during.split()[0]), abs=0.06
    )
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
    page.mouse.move(290, 130)
    page.mouse.down()
    seen = [page.place(i) for i in range(6)]
    page.mouse.move(390, 200, steps=4)
    page.mouse.up()
    assert page.js("denser.state.structure.positions") == start
    assert np.abs(np.subtract([page.place(i) for i in range(6)], seen)).max() > 10


def test_selecting_measuring_and_editing(page):
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
    assert "taken as a doublet" in page.inner_text("#notes")
    page.drawn(page.locator("#charge-down").click)
    assert "doublet" not in page.inner_text("#notes")


def test_files_come_out_and_read_back(page, tmp_path: Path):
    cube = denser.read(page.download("[data-file='field/density.cube']", tmp_path))
    assert cube.integrate() == pytest.approx(14.0, abs=1e-3)
    assert cube.structure.formula == "CH4O"
    ccp4 = denser.read(page.download("[data-file='field/density.ccp4']", tmp_path))
    assert ccp4.integrate() == pytest.approx(14.0, abs=1e-2)
    numbers = json.loads(page.download("[data-file='numbers.json']", tmp_path).read_text())
    shown = {row["key"]: row["value"] for row in numbers["numbers"]}
    exact = denser.predict(cube.structure, spacing=0.3).dipole()  # at any spacing
    assert shown["dipole_debye"] == pytest.approx(np.linalg.norm(exact) * 2.5417, abs=1e-3)
    assert "charge_e" in page.download("[data-file='numbers.csv']", tmp_path).read_text()
    png = page.download("#png", tmp_path).read_bytes()
    assert png[:4] == b"\x89PNG"
    assert len(png) > 5000
    page.choose("deformation")
    difference = denser.read(page.download("[data-file='field/deformation.npz']", tmp_path))
    assert difference.integrate() == pytest.approx(0.0, abs=1e-3)


def test_smiles_files_and_what_is_wrong_with_them(page, tmp_path: Path):
    pytest.importorskip("rdkit")

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
    assert "does not cover" in page.message("molecule")
    assert page.inner_text("#status") == "no density"
    assert page.inner_text("#formula") == "HU"
    rows = [f"H {i} {j} 0" for i in range(142) for j in range(142)]
    (tmp_path / "large.xyz").write_text("\n".join([str(len(rows)), "", *rows]) + "\n")
    page.set_input_files("#file", tmp_path / "large.xyz")
    page.wait("document.querySelector('.message[data-for=open]').textContent.includes('up to')")
    water = Structure.from_ase(molecule("H2O"))
    name = "<i>&amp;sad.cube"  # text, and never HTML
    denser.write(tmp_path / name, superposition(water, Grid.around(water, 5.0, 0.3)))
    page.drawn(lambda: page.set_input_files("#file", tmp_path / name))
    assert page.message("open") == ""
    assert "from the file" in page.inner_text("#source-text")
    page.choose("minus_prediction")
    assert page.message("surface") == ""
    page.drawn(lambda: page.select_option("#item", "0"))
    field = page.locator("#fields button", has_text=f"Density - {name}")
    assert field.count() == 1
    assert page.locator("#fields i, #scale i i").count() == 0


def test_frames_play(page):
    assert page.locator("#item option").count() >= 4
    page.drawn(lambda: page.select_option("#item", "1"))
    page.drawn(page.locator("#play").click, messages=4)
    page.locator("#play").click()
    page.wait("!denser.state.draft")
    distances = set()
    for item in ("1", "2", "3"):
        page.drawn(lambda item=item: page.select_option("#item", item))
        distances.add(round(page.js("denser.state.structure.positions[1][2]"), 2))
    assert distances == {0.70, 0.74, 0.78}


def test_one_step_gives_energy_and_orbitals(page):
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


def test_critical_points(page):
    page.drawn(page.locator("#points").check, messages=2)
    assert "5 bond" in page.inner_text("#points-text")
    assert "complete" in page.inner_text("#points-text")


def test_two_tabs_and_an_empty_sketchpad(page, pages: Pages, here: Here, monkeypatch):
    pytest.importorskip("rdkit")
    monkeypatch.setattr(here.viewer, "items", [])
    second = pages.open()
    assert second.is_visible("#empty")
    second.drawn(second.locator("[data-example=CCO]").click)
    assert not second.is_visible("#empty")
    second.mouse.click(*second.place(second.js("denser.state.structure.symbols.indexOf('O')")))
    second.js("denser.element = 'F'")
    second.drawn(lambda: second.keyboard.press("c"))
    page.drawn(lambda: page.js("document.getElementById('level').oninput()"))
    assert second.inner_text("#formula") == "C2H5F"
    assert page.inner_text("#formula") == "CH4O"
    second.close()


def test_wrong_token_is_refused(browser, here: Here):
    page = blank(browser)
    answer = page.goto(re.sub(r"token=.*", "token=wrong", here.address))
    assert answer.status == 403
    assert "token" in page.inner_text("body")
    assert page.goto(here.address.split("?")[0]).status == 403
    page.close()


def test_command_serves_the_page_until_ctrl_c():
    served = Served()
    with urlopen(served.address, timeout=PATIENCE) as answer:
        assert answer.status == 200
        assert b"<title>denser</title>" in answer.read()
    assert served.end() == (0, "")


def test_notebook_views_share_one_context(browser, tmp_path: Path):
    """More views than a page has contexts: each still draws, turns and changes its isovalue."""
    water = Structure.from_ase(molecule("H2O"))
    view = show(superposition(water, Grid.around(water, 5.0, 0.35)), height=150)
    (tmp_path / "notebook.html").write_text(f"<body>{view._repr_html_() * 20}</body>")
    flat = blank(browser, 500, 3200)
    complaints = []
    flat.on("pageerror", lambda error: complaints.append(str(error)))
    flat.goto((tmp_path / "notebook.html").as_uri())
    page = Page(flat)
    page.wait("document.querySelectorAll('.denser-view.live').length === 20")
    assert page.js("denserRenderer.round") == 1
    first, last = (page.picture_of(f".denser-view canvas >> nth={k}") for k in (0, 19))
    shown = np.abs(first.astype(int) - 255).sum(axis=-1) > 30
    assert 0.05 < shown.mean() < 0.7
    np.testing.assert_allclose(
        first.astype(int), last.astype(int), atol=8
    )  # edges fall between pixels
    canvas = flat.locator(".denser-view canvas").last.bounding_box()
    x, y = canvas["x"] + canvas["width"] / 2, canvas["y"] + canvas["height"] / 2
    flat.mouse.move(x, y)
    flat.mouse.down()
    flat.mouse.move(x + 40, y + 20)
    flat.mouse.up()
    page.wait("!document.querySelectorAll('.denser-view')[19].view.waiting")
    turned = page.picture_of(".denser-view canvas >> nth=19")
    assert (turned != first).any(axis=-1).mean() > 0.02
    page.js("{ const s = document.querySelector('[name=level]'); s.value = 0; s.oninput() }")
    page.wait("!document.querySelector('.denser-view').view.waiting")
    lower = page.picture_of(".denser-view canvas >> nth=0")
    assert (np.abs(lower.astype(int) - 255).sum(axis=-1) > 30).mean() > 1.2 * shown.mean()
    assert complaints == []
    flat.close()


def test_saved_view_is_a_page_of_its_own(browser, tmp_path: Path):
    """Without WebGL it is a picture."""
    water = Structure.from_ase(molecule("H2O"))
    density = superposition(water, Grid.around(water, 5.0, 0.35))
    density.show(minus=density.with_values(0.9 * density.values)).save(tmp_path / "x.html")
    page = blank(browser, 500, 500)
    page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    asked = []
    page.on("request", lambda r: asked.append(r.url.split(":")[0]))
    page.goto((tmp_path / "x.html").as_uri())
    assert page.title() == "H2O at \u00b10.003 e/bohr^3"
    assert page.is_visible(".denser-view img")
    assert page.evaluate("document.querySelector('img').naturalWidth") > 200
    assert set(asked) <= {"file", "data", "blob"}
    page.close()
