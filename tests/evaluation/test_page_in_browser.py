"""The page in a browser: it renders, loads nothing, sorts, fits a phone, is readable, and runs no text from the data.

The tests are skipped where there is no Chromium or no playwright.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import Trained, make_tiny
from in_browser import COLOURS, TEXTS, Scheme, contrast, luminance, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

EVIL = ("'\"><img src=x onerror=window.__pwned=1>.jpg", "<script>window.__pwned=1</script>.jpg")


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory, trained: Trained) -> Path:
    """A page on disk, of four recipes: one random, one without AUC, figures above 9 and texts that try to run."""
    from beyond_the_test_set import add_everything
    from results_on_disk import page_of, write_results

    from ffdi.intake.auditing.findings import CHECKS

    folder = tmp_path_factory.mktemp("page")
    tiny = make_tiny(folder / "data")
    for old, new in zip(tiny.rows.loc[tiny.rows["role"] == "test", "path"], EVIL):  # the page shows test images only
        (tiny.root / new).parent.mkdir(exist_ok=True)
        (tiny.root / old).rename(tiny.root / new)
        tiny.rows["path"] = tiny.rows["path"].replace(old, new)
    metrics = write_results(
        folder,
        tiny,
        trained,
        {"plain": False, "good": True, "best": True, "blank": True},
        leaks=1,
        levels=("jpeg-50", "blur-2"),
    )
    changes: dict[str, dict[str, Any]] = {
        "good": {"ece": 10.5, "weights": EVIL[0]},
        "best": {"ece": 9.5, "val_auc_mean": 0.8},
        "blank": {"auc_reason": "one class"} | dict.fromkeys(("auc", "auc_low", "auc_high", "eer")),
    }
    for name, change in changes.items():
        file = metrics / "details" / f"{name}.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
    add_everything(metrics, "best")
    findings = folder / "findings.csv"
    findings.write_text(f"check,path_a,path_b,detail\n{CHECKS[0]},{EVIL[1]},b.jpg,x\n")
    page = folder / "index.html"
    page.write_text(page_of(metrics, tiny, ["plain", "good", "best", "blank"], findings), encoding="utf-8")
    return page


def heads(page: Page) -> list[Locator]:
    return page.locator("table#leaderboard thead th").all()


def check_order(page: Page, column: int) -> str:
    """The column's cells are in the order that aria-sort tells, which is returned; missing ones are at an end.

    A cell counts by its data-value, where it has one, and "≤ 0.1" as 0.1.
    """
    states = [head.get_attribute("aria-sort") for head in heads(page)]
    state = states.pop(column)
    assert state in ("ascending", "descending"), f"column {column} says {state!r}"
    assert set(states) <= {"none", None}, f"column {column} is not the only sorted one: {states}"
    cells = page.locator(f"table#leaderboard tbody tr > :nth-child({column + 1})")
    texts = cells.evaluate_all("cells => cells.map((e) => (e.dataset.value ?? e.innerText).trim())")
    there = [text for text in texts if text.strip("– ")]
    blanks = len(texts) - len(there)
    assert there in (texts[: len(there)], texts[blanks:]), f"missing figures amid others: {texts}"
    numbers = [re.match(r"(?:[≤≥<>] ?)?([-+−]?\d+(?:\.\d+)?)", text) for text in there]
    if all(numbers):
        figures: list[Any] = [float(n[1].replace("−", "-")) for n in numbers if n]
        expected = sorted(figures)
    else:
        figures, expected = there, page.evaluate("texts => texts.sort((a, b) => a.localeCompare(b))", there)
    assert figures == (expected if state == "ascending" else expected[::-1]), f"column {column}, {state}: {texts}"
    return state


def test_it_renders_without_complaint(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as seen:
        title = seen.page.locator("h1")
        assert title.count() == 1
        assert title.is_visible()
        assert title.inner_text().strip()
        assert seen.page.evaluate("document.body.getBoundingClientRect().height") > 500
        assert seen.complaints == []


def test_it_asks_for_nothing_but_itself(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file, trust=True) as seen:
        seen.page.mouse.wheel(0, 100_000)
        seen.page.wait_for_timeout(200)  # what loads late would ask now
        assert page_file.as_uri() in seen.requests
        assert [url[:200] for url in seen.requests if url != page_file.as_uri() and not url.startswith("data:")] == []


def test_every_column_sorts_both_ways(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as seen:
        rows = sorted(seen.page.locator("table#leaderboard tbody tr").all_inner_texts())
        assert len(rows) == 4
        for column, head in enumerate(heads(seen.page)):
            states = set()
            for _ in range(2):
                head.locator("button").click()
                states.add(check_order(seen.page, column))
            assert states == {"ascending", "descending"}, f"column {column} sorts one way only"
        assert sorted(seen.page.locator("table#leaderboard tbody tr").all_inner_texts()) == rows
        assert seen.complaints == []


def test_keys_sort_too(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as seen:
        buttons = [head.locator("button") for head in heads(seen.page)]
        buttons[0].focus()
        seen.page.keyboard.press("Tab")
        assert buttons[1].evaluate("e => e === document.activeElement"), "Tab does not lead to the next column"
        assert buttons[1].evaluate("e => getComputedStyle(e).outlineStyle !== 'none'"), "the focus cannot be seen"
        states = []
        for key in ("Enter", "Space"):
            seen.page.keyboard.press(key)
            states.append(check_order(seen.page, 1))
        assert sorted(states) == ["ascending", "descending"]


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_it_fits_the_width(browser: Browser, page_file: Path, width: int) -> None:
    with opened(browser, page_file, width=width, height=844) as seen:
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
        sizes = seen.page.evaluate(
            f"{TEXTS}.map((e) => [parseFloat(getComputedStyle(e).fontSize), e.textContent.trim().slice(0, 30)])"
        )
        assert sizes
        assert [size for size in sizes if size[0] < 12] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(browser: Browser, page_file: Path, scheme: Scheme) -> None:
    with opened(browser, page_file, scheme=scheme) as seen:
        seen.page.wait_for_timeout(100)
        colours = seen.page.evaluate(COLOURS)
        assert colours
        for what, ink, paper in colours:
            assert contrast(ink, paper) >= 4.5, f"{what}: {ink} on {paper}"
        behind = [luminance(paper) for _, _, paper in colours]
        assert max(behind) < 0.2 if scheme == "dark" else min(behind) > 0.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_prints(browser: Browser, page_file: Path, scheme: Scheme) -> None:
    with opened(browser, page_file, scheme=scheme) as seen:
        pdf = seen.page.pdf(format="A4")
        assert pdf.startswith(b"%PDF")
        assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 1
        seen.page.emulate_media(media="print")
        assert seen.page.locator("h1").is_visible()


def test_pictures_and_drawings_are_there(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as seen:
        seen.page.evaluate("""async () => {
          for (const e of document.querySelectorAll("details")) e.open = true;
          for (const e of document.images) { e.loading = "eager"; await e.decode().catch(() => null); }
        }""")
        images = seen.page.evaluate("[...document.images].map((e) => [e.alt, e.complete && e.naturalWidth > 0])")
        assert images
        assert [alt for alt, whole in images if not whole] == []
        drawings = """[...document.querySelectorAll("svg:not(svg svg)")].map((e) => e.getBoundingClientRect().width)"""
        widths = seen.page.evaluate(drawings)
        assert widths
        assert min(widths) > 0


def test_text_from_data_does_not_run(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file, trust=True) as seen:
        for text in EVIL:
            assert text in seen.page.locator("body").inner_text(), "the page does not show the text that this tests"
        for head in heads(seen.page):
            head.locator("button").click()
        seen.page.wait_for_timeout(100)
        assert seen.page.evaluate("typeof window.__pwned") == "undefined"
        assert seen.page.locator("[onerror]").count() == 0


def test_long_tables_unfold_filter_and_sort(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file, width=390) as seen:
        seen.page.locator("summary", has_text="method: 40 values").click()
        rows, count = (seen.page.locator(f"details:has(> .filter) {part}") for part in ("tbody tr", "output"))
        assert rows.first.inner_text().startswith("m0") and count.inner_text() == "40 of 40"
        seen.page.locator("details > .filter input").fill("M1 all")
        shown = rows.locator("visible=true").all_inner_texts()
        assert len(shown) == 11 and count.inner_text() == "11 of 40", shown
        seen.page.locator("details:has(> .filter) th button", has_text="value").click()
        assert rows.locator("visible=true").first.inner_text().startswith("m1\t")
        assert seen.complaints == []
