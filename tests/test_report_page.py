"""The report in a real browser: silent and offline, sorted, filtered, dark, on paper, on a phone, without scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import extra
from synthetic_study import CHANGED, NDCG, PMRR, Arm, claim, declare, make_quick, make_study, study_block

from analysis.page.gather import gather
from analysis.page.write import write
from analysis.study.evidence import Evidence
from analysis.study.opened import OpenStudy

pytestmark = pytest.mark.extras
playwright = extra("playwright.sync_api")
expect = playwright.expect

LONG = "a_name_that_goes_on_for_longer_than_a_narrow_screen_has_room_for_without_a_single_blank"
HOSTILE = "</script><script>alert(1)</script><img src=http://example.org/x onerror=alert(2)>"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a study whose names and queries are as bad as they come."""
    root = tmp_path_factory.mktemp("report")
    arms = {"a": 0.0, "b": 0.05, "c": -0.02, "d": 0.01, LONG: 0.03}
    places = (NDCG, CHANGED, PMRR)
    claims = [claim(f"claim {HOSTILE}", "greater", says=HOSTILE), claim("kept", "not_worse", CHANGED, margin=0.02)]
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        digest = declare(root / "r", study_block(claims, question=f"{LONG}? {HOSTILE}", arms=list(arms)))
        made = {
            name: Arm({"instructed": place / 8}, dict.fromkeys(places, shift), declared=digest, losses=(2.0, 1.0))
            for place, (name, shift) in enumerate(arms.items())
        }
        make_study(root / "r", made)
    return write(gather(OpenStudy(Evidence(root / "r", "s")), "results"), root / "out").page


Opener = Callable[..., Any]


@pytest.fixture
def opened(browser: Any, page_file: Path) -> Iterator[Opener]:
    """Return a function that opens the page offline; what it says, raises or asks for is a failure at the end."""
    said: list[str] = []
    contexts = []

    def open_page(**options: Any) -> Any:
        context = browser.new_context(offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: said.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: request.url == page_file.as_uri() or said.append(f"asked: {request.url}"))
        page.goto(page_file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def column(page: Any, table: str, place: int) -> list[str]:
    cells = page.locator(f"#{table} > tbody > tr:visible > :nth-child({place})")
    return [str(text).strip() for text in cells.all_inner_texts()]


def test_nothing_is_said_and_nothing_is_asked_for(opened: Opener) -> None:
    page = opened()
    expect(page.locator("article.claim")).to_have_count(2)
    expect(page.locator("article.claim").first).to_contain_text("<img src=http://example.org/x onerror=alert(2)>")
    expect(page.locator("img")).to_have_count(0)


def test_a_head_sorts_and_says_so(opened: Opener) -> None:
    page = opened()
    head = page.locator("#table-contrasts thead th").nth(2)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    values = [float(text.replace("−", "-")) for text in column(page, "table-contrasts", 3)]
    assert values == sorted(values) and len(values) == 12 and values[0] < 0 < values[-1]
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert [float(text.replace("−", "-")) for text in column(page, "table-contrasts", 3)] == sorted(values)[::-1]
    first = page.locator("#table-contrasts thead th").first
    first.locator("button").click()
    assert head.get_attribute("aria-sort") is None and first.get_attribute("aria-sort") == "ascending"
    names = column(page, "table-contrasts", 1)
    assert names == sorted(names)


def test_a_filter_hides_rows_and_counts(opened: Opener) -> None:
    page = opened()
    box = page.locator(".filter[data-filters=table-contrasts]")
    box.locator("input").fill(f"P-MRR  {LONG[:20]}")
    assert column(page, "table-contrasts", 1) == [f"{LONG} - a"]
    expect(box.locator("output")).to_have_text("1 of 12")
    box.locator("input").fill("")
    assert len(column(page, "table-contrasts", 1)) == 12
    expect(box.locator("output")).to_have_text("")


def test_dark_is_dark_and_paper_is_light(opened: Opener) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        page = opened(color_scheme=scheme)
        body = "getComputedStyle(document.body)"
        mark = "getComputedStyle(document.querySelector('#figure-forest_claims svg .ink'))"
        colours[scheme] = page.evaluate(f"[{body}.backgroundColor, {body}.color, {mark}.fill]")
    assert colours["light"][0] == "rgb(255, 255, 255)" and colours["light"][0] != colours["dark"][0]
    assert all(light != dark for light, dark in zip(colours["light"], colours["dark"], strict=True))
    page.emulate_media(media="print", color_scheme="dark")
    printed = page.evaluate(f"[{body}.backgroundColor, {body}.color, {mark}.fill]")
    assert printed == colours["light"]


def test_it_prints(opened: Opener) -> None:
    page = opened()
    data = page.pdf(format="A4")
    assert data.startswith(b"%PDF") and data.count(b"/Type /Page\n") < 30


@pytest.mark.parametrize("width", [390, 768, 1180])
def test_no_screen_scrolls_sideways(opened: Opener, width: int) -> None:
    page = opened(viewport={"width": width, "height": 844})
    for fold in page.locator("details").all():
        fold.evaluate("fold => { fold.open = true }")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    is_narrow = width < 640
    assert page.locator("#figure-forest_claims .narrow").is_visible() == is_narrow
    assert page.locator("#figure-forest_claims .wide").is_visible() != is_narrow


def test_marks_are_reached_by_the_keyboard_and_have_names(opened: Opener) -> None:
    page = opened()
    marks = page.locator("#figure-forest_claims .wide g[tabindex='0']")
    expect(marks).to_have_count(2)
    assert "Seeds: +" in marks.first.locator("title").text_content()
    marks.first.focus()
    assert page.evaluate("document.activeElement.tagName") == "g"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.querySelector('title').textContent").startswith("kept: b - a")


def test_without_scripts_all_is_there(opened: Opener) -> None:
    page = opened(java_script_enabled=False)
    assert len(column(page, "table-contrasts", 1)) == 12
    expect(page.locator(".filter").first).to_be_hidden()
    expect(page.locator("#table-contrasts thead button")).to_have_count(0)
    expect(page.locator("article.claim").first).to_be_visible()
