"""The page for raters in a real browser: keys, what is saved, a kill, two raters, dark and narrow, nothing foreign."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from audit_sample import make_sample, running_page, started_page
from conftest import extra

from ablate.data.judgments import Judgment
from analysis.audit.annotation.answers import answer_file
from analysis.audit.items import read_judgments
from analysis.audit.sample_folder import open_sample
from analysis.audit.sampling import answers_of

pytestmark = pytest.mark.extras
playwright = extra("playwright.sync_api")
expect = playwright.expect

TEXT = "<b>bold</b> & <img src=http://example.org/x onerror=alert(1)> " + "and then the ship sails on. " * 12
PRESSED = "y n c y".split()
MEANT = (True, False, None, True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_sample(tmp_path, passage_a=TEXT)


@pytest.fixture
def complaints() -> list[str]:
    """What pages say on the console, raise, or ask of other addresses; a test removes what it expects."""
    return []


@pytest.fixture
def opened(browser: Any, complaints: list[str]) -> Iterator[Any]:
    """Return a function that opens an address and waits for the page; every complaint of a page is a failure."""
    said, contexts = complaints, []

    def open_page(address: str, *, begin: bool = True, **options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: said.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("request", lambda request: request.url.startswith(address) or said.append(f"request: {request.url}"))
        page.goto(address)
        expect(page.locator("#count")).to_have_text(f"{page_progress(page)[0]} of {page_progress(page)[1]}")
        if begin and page.locator("#guide").is_visible():
            page.keyboard.press("Enter")
            expect(page.locator("#guide")).to_be_hidden()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def page_progress(page: Any) -> tuple[int, int]:
    """Return (answered, all) of the bar, once the items are there."""
    expect(page.locator("#count")).not_to_have_text("Loading")
    bar = page.locator("#progress")
    return int(bar.get_attribute("value")), int(bar.get_attribute("max"))


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def saved(folder: Path, rater: str = "ann") -> list[Judgment]:
    sample = open_sample(folder)
    return read_judgments([sample.answers_path(rater)], sample.items)


def test_ten_items_by_keys_alone(folder: Path, opened: Any) -> None:
    sample = open_sample(folder)
    with running_page(str(folder), "--rater", "ann") as address:
        page = opened(address, begin=False)
        expect(page.get_by_role("dialog", name="How to judge")).to_be_visible()
        press(page, "y")  # means nothing while the guide is open
        press(page, "Enter")
        expect(page.locator("#question-0.active")).to_be_visible()
        for number in range(1, 11):
            press(page, *PRESSED)  # as fast as they come: none is lost, none falls to the next item
            expect(page.locator("#count")).to_have_text(f"{number} of 12")
        judged = saved(folder)
        assert len(judged) == 10
        sheet_of = {item.id: name for name, item in sample.sheets.items()}
        assert [sheet_of[judgment.item_id] for judgment in judged] == list(sample.sheets)[:10]
        for judgment in judged:
            assert answers_of(judgment, sample.sheets[sheet_of[judgment.item_id]], sample.seed) == MEANT
        press(page, *PRESSED, *PRESSED)
        expect(page.get_by_role("heading", name="All items are answered")).to_be_focused()
        assert len(saved(folder)) == 12


def test_undo_goes_back_over_items_and_changes_are_saved(folder: Path, opened: Any) -> None:
    with running_page(str(folder), "--rater", "ann") as address:
        page = opened(address)
        press(page, *PRESSED, "y", "u")
        expect(page.locator("#count")).to_have_text("1 of 12")
        expect(page.locator("#question-0.active")).to_be_visible()
        assert len(saved(folder)) == 1
        press(page, "u")
        expect(page.locator("#count")).to_have_text("0 of 12")
        expect(page.locator("#question-3.active")).to_be_visible()
        assert saved(folder) == []
        press(page, "n")
        expect(page.locator("#count")).to_have_text("1 of 12")
        press(page, "ArrowLeft", "c")
        expect(page.get_by_role("status")).to_have_text("Changed and saved")
        sample = open_sample(folder)
        first = next(iter(sample.sheets.values()))
        assert [answers_of(judgment, first, sample.seed) for judgment in saved(folder)] == [(None, False, None, False)]
        group = page.get_by_role("group", name="Is passage 2 relevant under instruction B?")
        with page.expect_response("**/save"):
            group.get_by_role("button", name="Yes").click()
        expect(group.get_by_role("button", name="Yes")).to_have_attribute("aria-pressed", "true")
        assert [answers_of(judgment, first, sample.seed) for judgment in saved(folder)] == [(None, False, None, True)]


def test_held_keys_and_shortcuts_of_the_browser_answer_nothing(folder: Path, opened: Any) -> None:
    with running_page(str(folder), "--rater", "ann") as address:
        page = opened(address)
        press(page, "Control+y", "Alt+y", "Meta+y", "Shift+y", "x", "1")
        page.keyboard.down("y")
        for _ in range(5):
            page.keyboard.down("y")  # repeats
        page.keyboard.up("y")
        expect(page.locator("#question-1.active")).to_be_visible()
        assert page.locator("[aria-pressed=true]").count() == 1
        button = page.locator("#question-1 button").first
        button.focus()
        for _ in range(5):
            page.keyboard.down("Enter")
        page.keyboard.up("Enter")
        expect(page.locator("#question-2.active")).to_be_visible()
        assert page.locator("[aria-pressed=true]").count() == 2


def test_after_a_kill_it_goes_on_with_the_first_open_item(folder: Path, opened: Any) -> None:
    with running_page(str(folder), "--rater", "ann") as address:  # which ends it by SIGKILL
        page = opened(address)
        press(page, *PRESSED, *PRESSED, "y", "n", "c")
        expect(page.locator("#count")).to_have_text("2 of 12")
        expect(page.locator("#question-3.active")).to_be_visible()
    path = folder / "answers" / "ann.jsonl"
    path.write_bytes(path.read_bytes() + path.read_bytes()[:40])  # the kill came while a line was written
    with running_page(str(folder), "--rater", "ann") as address:
        page = opened(address)
        expect(page.locator("#count")).to_have_text("2 of 12")
        expect(page.locator("#place")).to_have_text("Item 3 of 12")
        press(page, *PRESSED)
        expect(page.locator("#count")).to_have_text("3 of 12")
    assert len(saved(folder)) == 3


def test_what_was_not_saved_is_said_and_can_be_answered_again(folder: Path, opened: Any, complaints: list[str]) -> None:
    with running_page(str(folder), "--rater", "ann") as address:
        page = opened(address)
        held: list[Any] = []
        page.route("**/save", lambda route: held.append(route))
        press(page, *PRESSED, "n", "n")  # the last two, pressed before the reply, were meant for the next item
        held[0].continue_(post_data='{"sheet": "x"}')
        expect(page.get_by_role("alert")).to_have_text(
            "Not saved: this is no sheet of the sample; load the page again."
        )
        expect(page.locator("#question-3.active")).to_be_visible()
        assert page.locator("[aria-pressed=true]").count() == 3 and saved(folder) == []
        assert complaints.pop().startswith(
            "console: Failed to load resource: the server responded with a status of 400"
        )
        page.unroute("**/save")
        press(page, "y")
        expect(page.locator("#count")).to_have_text("1 of 12")
        expect(page.get_by_role("alert")).to_be_hidden()


def test_two_raters_see_nothing_of_each_other(folder: Path, opened: Any) -> None:
    first, second = (running_page(str(folder), "--rater", name) for name in ("ann", "bob"))
    with first as ann_address, second as bob_address:
        ann, bob = opened(ann_address), opened(bob_address)
        press(ann, *PRESSED)
        expect(ann.locator("#count")).to_have_text("1 of 12")
        bob.reload()
        expect(bob.locator("#count")).to_have_text("0 of 12")
        press(bob, "Enter", "n", "n", "n", "n")
        expect(bob.locator("#count")).to_have_text("1 of 12")
        assert bob.locator(".said").count() == 0
    assert [judgment.rater for judgment in (*saved(folder, "ann"), *saved(folder, "bob"))] == ["ann", "bob"]
    with running_page(str(folder), "--adjudicate", "ann", "bob") as address:
        page = opened(address)
        expect(page.locator("#place")).to_have_text("Item 1 of 1")
        said = page.locator(".said").all_text_contents()
        assert [words.partition(":")[0] for words in said] == [
            "Raters differ",
            "Raters agree",
            "Raters differ",
            "Raters differ",
        ]
        press(page, "y", "n", "y")  # the second answer is filled in
        expect(page.get_by_role("heading", name="All items are answered")).to_be_visible()
        press(page, "u")
        expect(page.locator("#question-3.active")).to_be_visible()
        press(page, "y")
        expect(page.get_by_role("heading", name="All items are answered")).to_be_visible()
    sample = open_sample(folder)
    (settled,) = saved(folder, "adjudicated")
    first_item = next(iter(sample.sheets.values()))
    assert (settled.rater, settled.kind) == ("adjudicated", "human")
    assert answers_of(settled, first_item, sample.seed) == (True, False, False, True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_is_readable_wide_and_narrow_light_and_dark(scheme: str, width: int, folder: Path, opened: Any) -> None:
    with running_page(str(folder), "--rater", "ann") as address:
        page = opened(address, color_scheme=scheme, viewport={"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") == width
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground[4:-1].split(","))) < 200) == (scheme == "dark")
        for button in page.locator("button:visible").all():
            box = button.bounding_box()
            assert box["height"] >= 44 and box["width"] >= 44, button.text_content()
        assert page.locator("#passages b, #passages img").count() == 0  # texts are texts
        assert TEXT.strip() in [text.strip() for text in page.locator("#passages .text").all_text_contents()]
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        assert focused.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
        unnamed = page.locator("button:visible").evaluate_all(
            "all => all.filter(node => !node.textContent.trim()).length"
        )
        assert unnamed == 0 and page.get_by_role("progressbar", name="Items answered").count() == 1


def test_three_hundred_items_are_no_burden(tmp_path: Path, opened: Any) -> None:
    folder = make_sample(tmp_path, size=300, known_bad=0, num_items=300, passage_a=TEXT * 4)
    sample = open_sample(folder)
    with answer_file(sample, "ann") as file:
        file.save_all(dict.fromkeys(list(sample.sheets)[:297], MEANT))
    with started_page(str(folder), "--rater", "ann", "--stop-when-done") as (process, address):
        page = opened(address)
        press(page, *PRESSED * 3)
        expect(page.get_by_role("heading", name="All items are answered")).to_be_visible()
        said, _ = process.communicate(timeout=30)  # it ends by itself
        assert process.returncode == 0 and "300 of 300 items are answered" in said
