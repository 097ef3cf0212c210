"""ffdi app in a browser, with real uploads and the command as users start it, and its page in every light and width.

The tests are skipped where there is no Chromium or no playwright.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import Trained, picture
from in_browser import COLOURS, TEXTS, Opened, Scheme, contrast, luminance, opened
from served_app import asked, served
from test_app_process import bomb

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytest.importorskip("starlette", reason="the extra app is not installed")

from ffdi.deploy.app.worker import Answer

RUN = "from ffdi.commands.main import main; main()"
DONE = "n => document.querySelectorAll('.verdict:not([hidden]), .state.bad').length >= n"
REFUSED = "Failed to load resource: the server responded with a status of 4"


@pytest.fixture(scope="module")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """real-N.jpg, fake-N.jpg, letter.jpg and bomb.png."""
    folder = tmp_path_factory.mktemp("uploads")
    for number in range(10):
        kind = "fake" if number % 2 else "real"
        picture(number, 64, kind == "fake").save(folder / f"{kind}-{number}.jpg", quality=92)
    (folder / "letter.jpg").write_text("Dear Sir or Madam")
    (folder / "bomb.png").write_bytes(bomb(60_000))
    return folder


@pytest.fixture(scope="module")
def app(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of `ffdi app`. After Ctrl-C it ends quietly, and neither its folder nor that of temporary files has a file."""
    here, temporary = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("temporary")
    command = [sys.executable, "-c", RUN, "app", "--model", str(trained.model), "--port", "0"]
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": path}
    process = subprocess.Popen(command, cwd=here, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    try:
        line = process.stderr.readline()
        found = re.fullmatch(r"app: http://127\.0\.0\.1:(\d+) judges with model; Ctrl-C ends it\n", line)
        assert found, line + process.stderr.read()
        yield int(found[1])
        process.send_signal(signal.SIGINT)
        assert (process.wait(20), process.stderr.read()) == (0, "")
        assert [*here.rglob("*"), *temporary.rglob("*")] == []
    finally:
        process.kill()


def upload(seen: Opened, files: Sequence[Path]) -> list[str]:
    """Choose the files, and return what each card says once all are judged."""
    seen.page.set_input_files("#file", files)
    seen.page.wait_for_function(DONE, arg=len(files), timeout=60_000)
    return seen.page.locator("article .told").all_inner_texts()


def test_real_and_forged_pictures_are_judged(browser: Browser, app: int, uploads: Path, trained: Trained) -> None:
    from ffdi.deploy.detector import load

    files = [uploads / name for name in ("real-0.jpg", "fake-1.jpg")]
    rows = load(trained.model).predict(files).to_dict("records")
    with opened(browser, f"http://127.0.0.1:{app}") as seen:
        for text, file, row in zip(upload(seen, files), files, rows, strict=True):
            name, verdict = list(filter(None, text.splitlines()))[:2]
            assert (name, verdict) == (file.name, row["verdict"].capitalize())
            score = seen.page.locator("article", has_text=name).locator(".mark").get_attribute("data-score")
            assert score == f"{row['score']:.3f}"
        assert seen.page.locator("#said").inner_text().startswith(f"{name}: {verdict.lower()}, score {score}.")
        seen.page.locator("#clear").click()
        assert seen.page.locator("article").count() == 0
        assert {url.split("/")[2] for url in seen.requests if not url.startswith("data:")} == {f"127.0.0.1:{app}"}
        assert seen.complaints == []


def test_what_is_no_picture_is_told_so(browser: Browser, app: int, uploads: Path) -> None:
    with opened(browser, f"http://127.0.0.1:{app}") as seen:
        letter, large, real = upload(seen, [uploads / name for name in ("letter.jpg", "bomb.png", "real-2.jpg")])
        assert "Not judged: This is no picture that can be read" in letter
        assert "Not judged: This picture has more than 50 megapixels" in large
        assert "P(fake)" in real
        assert seen.page.locator(".again:visible").count() == 0
        assert [line for line in seen.complaints if not line.startswith(REFUSED)] == []


@pytest.mark.parametrize("size", [(2000, 1500), pytest.param((8000, 5000), marks=pytest.mark.long)])
def test_a_photo_is_judged(browser: Browser, app: int, tmp_path: Path, size: tuple[int, int]) -> None:
    """Also one of 40 megapixels."""
    picture(1).resize(size).save(tmp_path / "photo.jpg", quality=50)
    with opened(browser, f"http://127.0.0.1:{app}") as seen:
        (text,) = upload(seen, [tmp_path / "photo.jpg"])
        assert "P(fake)" in text


def test_ten_at_once(browser: Browser, app: int, uploads: Path) -> None:
    """On one page they go one after the other; ten at the same moment wait for their turn."""
    files = sorted([*uploads.glob("real-*"), *uploads.glob("fake-*")])
    with opened(browser, f"http://127.0.0.1:{app}") as seen:
        texts = upload(seen, files)
        assert [text.splitlines()[0] for text in texts] == [file.name for file in files]
        assert all("P(fake)" in text for text in texts)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda file: asked(app, file.read_bytes()), files))
    assert [response.status for response, _ in answers] == [200] * 10
    assert str(Path.home()) not in str(answers)


def told(data: bytes) -> Answer:
    """A made-up answer that has everything: a band, a warning, a heat map, a score at the edge."""
    buffer = io.BytesIO()
    picture(3, 224).save(buffer, "PNG")
    shown = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    answer = {
        "score": 0.981,
        "verdict": "fake",
        "threshold": 0.62,
        "low": 0.4,
        "high": 0.75,
        "spread": 0.031,
        "tails": 5,
    }
    told = {"meaning": "It is no proof. " * 5, "warning": "Unlike the training data: it lies far.", "unlike": True}
    method = "Grad-CAM on the features at the cut."
    whole = answer | told | {"picture": shown, "heat": shown, "method": method}
    return Answer(200, json.dumps({"pictures": [whole]}).encode())


@pytest.fixture(scope="module")
def full() -> Iterator[str]:
    with served(told, megabytes=1) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_and_can_be_read(browser: Browser, full: str, uploads: Path, width: int, scheme: Scheme) -> None:
    with opened(browser, full, width=width, scheme=scheme) as seen:
        upload(seen, [uploads / "fake-1.jpg"])
        page = seen.page
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        sizes: Any = page.evaluate(
            f"{TEXTS}.map((e) => [parseFloat(getComputedStyle(e).fontSize), e.textContent.trim()])"
        )
        assert [size for size in sizes if size[0] < 12] == []
        colours: Any = page.evaluate(COLOURS)
        for what, ink, paper in colours:
            assert contrast(ink, paper) >= 4.5, f"{what}: {ink} on {paper}"
        behind = [luminance(paper) for what, _, paper in colours if ".button" not in what]
        assert max(behind) < 0.2 if scheme == "dark" else min(behind) > 0.5
        assert seen.complaints == []


def test_the_scale_has_the_band_and_the_score_in_their_places(browser: Browser, full: str, uploads: Path) -> None:
    with opened(browser, full) as seen:
        upload(seen, [uploads / "fake-1.jpg"])
        parts = (".undecided", ".fake", ".mark", ".threshold")
        boxes = {part: seen.page.locator(f".bar {part}").bounding_box() for part in parts}
        whole = seen.page.locator(".bar").bounding_box()
        assert whole and all(boxes.values())
        share = {part: (box["x"] - whole["x"]) / whole["width"] for part, box in boxes.items() if box}
        assert share == pytest.approx({".undecided": 0.4, ".fake": 0.75, ".mark": 0.981, ".threshold": 0.62}, abs=0.015)
        label = seen.page.locator(".scale").get_attribute("aria-label")
        assert label and "0.981" in label and "undecided between" in label
        assert "± 0.031".replace(" ", "\u00a0") in seen.page.locator(".limits").inner_text()


def test_keys_do_all(browser: Browser, full: str, uploads: Path) -> None:
    with opened(browser, full) as seen:
        page = seen.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "file"
        assert page.evaluate("getComputedStyle(document.querySelector('#drop')).outlineStyle") != "none"
        upload(seen, [uploads / "fake-1.jpg"])
        assert page.locator(".unlike").inner_text().startswith("Unlike the training data")
        for hidden in (False, True):
            while page.evaluate("document.activeElement.className") != "toggle":
                page.keyboard.press("Tab")
            page.keyboard.press("Enter")
            assert page.locator(".heat").is_hidden() is hidden
            assert page.locator(".toggle").get_attribute("aria-pressed") == str(not hidden).lower()
        assert "Unlike the training data" in page.locator("#said").inner_text()


def test_pictures_are_dropped_and_pasted_and_their_names_do_not_run(browser: Browser, full: str) -> None:
    evil = "<img src=x onerror=window.__pwned=1>.jpg"
    script = """(name) => {
      const held = new DataTransfer();
      held.items.add(new File(["x"], name));
      dispatchEvent(new DragEvent("drop", {dataTransfer: held}));
      dispatchEvent(new ClipboardEvent("paste", {clipboardData: held}));
    }"""
    with opened(browser, full, trust=True) as seen:
        seen.page.evaluate(script, evil)
        seen.page.wait_for_function(DONE, arg=2)
        assert seen.page.locator(".name").all_inner_texts() == [evil, evil]
        assert seen.page.evaluate("typeof window.__pwned") == "undefined"
        seen.page.evaluate("dispatchEvent(new DragEvent('drop', {dataTransfer: new DataTransfer()}))")
        assert "An address is not fetched" in seen.page.locator("#said").inner_text()


def test_a_file_that_is_too_long_stays_here_and_an_ended_app_is_said(
    browser: Browser,
    uploads: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "long.jpg").write_bytes(bytes(1_000_001))
    with served(told, megabytes=1) as port:
        context = opened(browser, f"http://127.0.0.1:{port}")
        seen = context.__enter__()
        assert "larger than 1 MB" in upload(seen, [tmp_path / "long.jpg"])[0]
        assert not [url for url in seen.requests if url.endswith("/judge")]
    seen.page.locator("#clear").click()
    assert "is ffdi app still running?" in upload(seen, [uploads / "real-0.jpg"])[0]
    assert seen.page.locator(".again").is_visible()
    context.__exit__(None, None, None)
