"""The page in headless Chromium: what it shows, keys, pointer, themes, phones, hostile text."""

import shutil

import pytest
from small_run import HOSTILE, large_content

from seqkd_jax.report.page import assemble

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SENTENCES = 1000


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright (the extra test)")
    if CHROMIUM is None:
        pytest.skip("needs Chromium (apt-get install chromium)")
    with api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=0
        )
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def large():
    return large_content(SENTENCES)


@pytest.fixture(scope="module")
def files(tmp_path_factory, large):
    folder = tmp_path_factory.mktemp("pages")
    small = large_content(12, 3)
    for side in ("source", "reference"):
        small["sentences"][side][0] = HOSTILE
    small["sentences"]["texts"][0] = [f"{HOSTILE} {n}" for n in range(3)]
    small["title"] = small["systems"][1]["name"] = small["runs"][0]["corpus"] = HOSTILE
    small["lists"][0][0]["hypotheses"][0][1] = HOSTILE
    for name, content in (("large", large), ("hostile", small)):
        (folder / f"{name}.html").write_text(assemble(content), encoding="utf-8")
    return folder


@pytest.fixture
def opened(browser, files):
    """Opens a page without network; it must not have said anything on the console in the end."""
    contexts, said = [], []

    def open_page(name="large", **settings):
        context = browser.new_context(
            offline=True, **{"viewport": {"width": 1280, "height": 900}, **settings}
        )
        contexts.append(context)
        context.set_default_timeout(0)
        page = context.new_page()
        for event in ("console", "pageerror", "dialog"):
            page.on(event, lambda message: said.append(message))
        page.goto((files / f"{name}.html").as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not said


@pytest.mark.slow
def test_the_front_of_quality_and_speed_is_drawn(opened):
    figure = opened().locator("figure", has_text="Quality and speed")
    assert figure.locator(".u-label").filter(has_text="Pareto front").count() == 1
    assert set(figure.locator(".u-value").all_inner_texts()) == {""}
    figure.locator(".u-over").hover()
    assert any(text.strip() for text in figure.locator(".u-value").all_inner_texts())


def change(page, rank=0) -> float:
    text = page.locator(f"#item-{rank} .change").first.inner_text()
    return float(text.replace("−", "-"))


def source_of(page) -> str:
    return page.locator("#detail .text").first.inner_text()


@pytest.mark.slow
def test_a_thousand_sentences_are_sorted_searched_and_scrolled(opened, large):
    page, sources = opened(), large["sentences"]["source"]
    assert page.locator("#count").inner_text().startswith("1,000 of 1,000 sentences; the test set")
    bleu = [line[1] - line[0] for line in large["sentences"]["bleu"]]  # system 1 and system 0
    assert page.locator("#system").input_value() == "1"
    assert change(page) == pytest.approx(max(bleu), abs=0.05)
    page.select_option("#order", "loss")
    page.locator("#list").press("Home")
    assert change(page) == pytest.approx(min(bleu), abs=0.05)
    page.select_option("#order", "text")
    page.locator("#list").press("End")
    assert source_of(page) == sources[-1]
    assert page.locator(f"#item-{SENTENCES - 1}").get_attribute("aria-selected") == "true"
    assert page.locator(".item").count() < 60  # only those that can be seen exist

    page.keyboard.press("/")
    word = large["sentences"]["texts"][7][2].split()[0]
    page.keyboard.type(word)
    texts = zip(sources, large["sentences"]["reference"], large["sentences"]["texts"], strict=True)
    found = sum(word in "\n".join([source, other, *line]) for source, other, line in texts)
    assert page.locator("#count").inner_text().startswith(f"{found} of 1,000")
    page.keyboard.press("Escape")
    assert page.locator("#count").inner_text().startswith("1,000 of")
    assert page.evaluate("document.activeElement.id") == "list"

    page.fill("#from", "8")
    page.fill("#to", "9")
    within = sum(8 <= len(source.split()) <= 9 for source in sources)
    assert page.locator("#count").inner_text().startswith(f"{within} of 1,000")
    page.fill("#search", "no such word")
    assert "No sentence fits" in page.locator("#detail").inner_text()


@pytest.mark.slow
def test_attention_follows_the_pointer_and_the_keys(opened, large):
    page = opened()
    page.select_option("#order", "text")
    page.locator("#list").press("Home")
    page.locator("#list").press("ArrowDown")
    assert source_of(page) == large["sentences"]["source"][1]
    size = len(large["sentences"]["source"][1].split())
    digits = large["attention"][3][1][3]

    def looked() -> list[int]:
        return page.evaluate(
            "[...document.querySelectorAll('[data-role=source] .unit')]"
            ".map(unit => Math.round(35 * (unit.style.getPropertyValue('--weight') || 0)))"
        )

    output = page.locator("#detail [data-system='3']")
    output.locator(".unit").nth(2).hover()
    assert looked() == [int(digit, 36) for digit in digits[2 * size : 3 * size]]
    output.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert page.locator(".looking").count() == 1
    page.keyboard.press("ArrowDown")  # the next sentence, and the same output
    assert source_of(page) == large["sentences"]["source"][2]
    assert page.evaluate("document.activeElement.dataset.system") == "3"


def test_marks_lists_and_the_table(opened, large):
    page = opened()
    page.select_option("#order", "text")
    page.locator("#list").press("Home")
    text, reference = large["sentences"]["texts"][0][4], large["sentences"]["reference"][0]
    marked = page.locator("#detail [data-system='4'] .marked").all_inner_texts()
    changed = [a for a, b in zip(text.split(), reference.split(), strict=True) if a != b]
    assert marked == changed and changed
    page.select_option("#system", "4")
    missing = page.locator("#detail .missing").all_inner_texts()
    assert missing == [b for a, b in zip(text.split(), reference.split(), strict=True) if a != b]
    assert "underlined: what system 4 has not" in page.locator("#detail").inner_text()
    page.select_option("#basis", "none")
    assert page.locator("#detail .missing").count() == 0
    tags = page.locator("#detail li:has(.tag)").all_inner_texts()
    assert len(tags) == 2 and "Seq-KD" in tags[0] and "Seq-Inter" in tags[1]

    head = page.locator("#tables th button", has_text="BLEU K=1")
    names = page.locator("#tables tbody th")
    head.click()
    assert names.first.inner_text() == "system 8"
    head.click()
    assert names.first.inner_text() == "system 0"
    assert page.locator("canvas").count() == 5
    # No two systems look alike, nor do two neighbours without colour.
    looks = page.evaluate(
        "[...Array(32).keys()].map((n) => lineOf({systems: Array(32).fill({})}, n))"
    )
    assert len({(one["stroke"], *one["dash"]) for one in looks}) == 32
    assert all(a["dash"] != b["dash"] for a, b in zip(looks[:8], looks[1:8], strict=False))


def test_hostile_text_is_shown_and_not_run(opened):
    page = opened("hostile")
    assert page.title() == HOSTILE.replace("\u2028", "").strip() or page.title() == HOSTILE
    assert page.evaluate("document.images.length") == 0
    assert page.evaluate("document.scripts.length") == 7
    page.select_option("#order", "text")
    page.locator("#list").press("Home")
    assert page.evaluate("document.querySelector('#detail .text').textContent") == HOSTILE
    shown = page.locator("#detail").inner_text()
    assert shown.count("<img src=x onerror=alert(1)>") >= 6
    assert "stolen" not in page.title().replace(HOSTILE.strip(), "")


def test_dark_light_and_phone(opened):
    phone = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
    page = opened("hostile", **phone, reduced_motion="reduce")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("#item-3").tap()
    assert page.locator("#item-3").get_attribute("aria-selected") == "true"
    assert page.evaluate("document.getElementById('detail').getBoundingClientRect().top") < 400

    def light() -> bool:
        return page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == (
            "rgb(255, 255, 255)"
        )

    assert light()
    page.emulate_media(color_scheme="dark")
    assert not light()
    page.locator("#theme").click()
    assert light() and page.locator("#theme").inner_text() == "Theme: light"
    page.emulate_media(color_scheme="light", media="print")
    assert not page.locator("#controls").is_visible() and page.locator("#tables table").is_visible()
