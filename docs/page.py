"""Measures the page of a large experiment in headless Chromium, and takes pictures of a page.

    python docs/page.py                                   # 1,000 test sentences of 9 systems
    python docs/page.py --page runs/demo/page.html        # any page
    python docs/page.py --page runs/demo/page.html --pictures docs/pictures
    python docs/page.py --site docs/_build/html --pictures docs/pictures      # its first page

Needs playwright (the extra test) and Chromium. Figures are of the clock: seconds from the start of
loading to the first sentence that is shown, of sorting, of a search, and milliseconds of a frame
while the list is scrolled.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SIZES = {"page": (1200, 1000, "light"), "page-dark": (1200, 1000, "dark")}
SCROLLING = """() => new Promise((done) => {
  const list = document.getElementById("list"), frames = [];
  let last = performance.now();
  const step = (now) => {
    frames.push(now - last);
    last = now;
    list.scrollTop += 240;
    frames.length < 120 ? requestAnimationFrame(step) : done(frames.slice(1));
  };
  requestAnimationFrame(step);
})"""


@contextmanager
def opened(path: Path, width: int, height: int, scheme: Any) -> Iterator[Any]:
    """Opens a page without network."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        viewport: Any = {"width": width, "height": height}
        context = browser.new_context(offline=True, viewport=viewport, color_scheme=scheme)
        page = context.new_page()
        page.goto(path.absolute().as_uri())
        yield page
        browser.close()


def measure(path: Path) -> None:
    """Prints how long a page needs for what people do."""
    with opened(path, 1280, 900, "light") as page:

        def seconds(script: str) -> float:
            """Runs a script, and waits until what it changed has been drawn."""
            waiting = "await new Promise((r) => requestAnimationFrame(() => setTimeout(r)))"
            timed = f"async () => {{ const t = performance.now(); {script}; {waiting}; "
            return page.evaluate(timed + "return (performance.now() - t) / 1000; }")

        def change(name: str, value: str, event: str) -> str:
            return (
                f"const e = document.getElementById('{name}'); e.value = '{value}'; "
                f"e.dispatchEvent(new Event('{event}'))"
            )

        loaded = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd / 1000"
        print(f"{path.stat().st_size / 1e6:.1f} MB, {page.locator('#count').inner_text()}")
        print(f"opened in {page.evaluate(loaded):.2f} s")
        print(f"sorted in {seconds(change('order', 'worst', 'change')):.2f} s")
        print(f"searched in {seconds(change('search', 'a', 'input')):.2f} s")
        frames = page.evaluate(SCROLLING)
        print(f"scrolled with {statistics.mean(frames):.0f} ms a frame, {max(frames):.0f} at most")


def main() -> None:
    """Measures a page, or takes pictures of it."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--page", type=Path, help="a page of seqkd report; else one that is drawn")
    options.add_argument("--site", type=Path, help="the folder of the built site")
    options.add_argument("--pictures", type=Path, help="folder in which to write pictures")
    given = options.parse_args()
    if given.pictures and not (given.page or given.site) or given.site and not given.pictures:
        raise SystemExit("--pictures needs --page or --site, and --site needs --pictures.")
    if given.site:
        with opened(given.site / "index.html", 1200, 800, "light") as page:
            page.screenshot(path=given.pictures / "site.png")
        return
    if given.pictures:
        for name, (width, height, scheme) in SIZES.items():
            with opened(given.page, width, height, scheme) as page:
                place = "#sentences" if name == "page" else "#results"
                page.locator(place).evaluate("e => e.scrollIntoView({behavior: 'instant'})")
                words = page.locator("#detail [data-system] .unit")
                if name == "page" and words.count():
                    words.nth(min(2, words.count() - 1)).hover()
                page.wait_for_timeout(500)
                page.screenshot(path=given.pictures / f"{name}.png")
        return
    if given.page:
        measure(given.page)
        return
    sys.path.insert(0, str(HERE.parent / "tests"))
    from small_run import large_content

    from seqkd_jax.report.page import assemble

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        path.write_text(assemble(large_content(1000)), encoding="utf-8")
        measure(path)


if __name__ == "__main__":
    main()
