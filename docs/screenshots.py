"""Pictures of the viewer for README.md and the pages: python docs/screenshots.py.

Needs Chromium and Playwright (`make browser`). The molecule is paracetamol. They are written to
docs/images.
"""

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).parent / "images"
SMILES = "CC(=O)Nc1ccc(O)cc1"
ARGUMENTS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


BUSY = """!denser.state || denser.state.charges_wanted
    || document.getElementById('points-text').textContent.startsWith('Searching')"""


def drawn(page: Page) -> None:
    """Wait until nothing more is drawn for two seconds, and nothing is awaited."""
    before, since = -1, time.monotonic()
    while time.monotonic() - since < 2:
        time.sleep(0.2)
        frames = page.evaluate(f"{BUSY} ? -1 : denser.frames")
        if frames != before or frames < 0:
            before, since = frames, time.monotonic()


def picture(page: Page, name: str) -> None:
    """Write the page as docs/images/view_NAME.png."""
    drawn(page)
    page.evaluate("document.getElementById('show').scrollTop = 0")
    path = IMAGES / f"view_{name}.png"
    page.screenshot(path=path)
    print(f"wrote {path}")


def pictures(page: Page) -> None:
    """Take all of them."""
    drawn(page)
    page.locator("[data-field='coloured']").click()
    picture(page, "potential")
    page.locator("[data-field='none']").click()
    page.check("#slice")
    drawn(page)
    page.select_option("#slice-field", "deformation")
    page.check("#points")
    picture(page, "slice")
    page.uncheck("#points")
    page.uncheck("#slice")
    page.select_option("#labels", "f_minus")
    page.check("#colour-atoms")
    picture(page, "fukui")
    page.uncheck("#colour-atoms")
    page.locator("[data-field='density']").click()
    page.select_option("#labels", "hirshfeld")
    page.locator("#sketch").click()
    drawn(page)
    for atom in (1, 2):  # C=O
        place = page.evaluate(f"denser.scene.screen([denser.scene.atoms.positions[{atom}]])[0]")
        page.mouse.click(place["x"], place["y"])
    picture(page, "sketch")


def main() -> int:
    """Run the viewer and the browser."""
    command = [sys.executable, "-m", "denser", "view", "--no-browser", "--smiles", SMILES]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    address = re.search(r"http\S+", server.stdout.readline())
    assert address is not None
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=ARGUMENTS
        )
        page = chromium.new_page(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
        page.set_default_timeout(60_000)
        page.goto(address.group())
        pictures(page)
        chromium.close()
    server.send_signal(signal.SIGINT)
    return server.wait(60)


if __name__ == "__main__":
    sys.exit(main())
