"""Explanations of many pictures: the files, the page of all, and the command that writes them."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import Tiny, Trained, picture
from in_browser import COLOURS, browser, contrast, opened  # noqa: F401 - a fixture
from PIL import Image

from ffdi.commands.main import main
from ffdi.deploy.explanation.explain import CANNOT_TELL, Explanation
from ffdi.deploy.explanation.picture import SIDE, explanation_picture
from ffdi.deploy.judgement import Judgement
from ffdi.tails.policy import Policy

EVIL = "<script>window.__pwned=1</script>.png"


@pytest.fixture(scope="module")
def explained(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures of one name, one whose name tries to run, one that is none, and an older file in the folder."""
    folder, out = tmp_path_factory.mktemp("pictures"), tmp_path_factory.mktemp("explained")
    for place in ("one/a.png", "two/A.png", f"three/{EVIL.replace('/', '')}"):
        (folder / place).parent.mkdir()
        picture(0).save(folder / place)
    (folder / "four.jpg").write_text("no image")
    (out / "mine.txt").write_text("mine")
    options = ["--model", str(trained.model), "--out", str(out), "--across", "2", "--stride", "1"]
    result = CliRunner().invoke(main, ["explain", *options, str(folder)])
    assert result.exit_code == 1 and "explain: 1 of 4 images cannot be read" in result.output
    assert f"explain: 3 of 4 images explained: see {out / 'index.html'}" in result.output
    return out


def test_each_picture_has_a_file_and_a_place_on_the_page(explained: Path) -> None:
    names = sorted(file.name for file in explained.iterdir())
    of_evil = "_script_window.__pwned_1_script_.png.explained.png"
    assert names == sorted(["mine.txt", "index.html", "a.png.explained.png", "A.png-2.explained.png", of_evil])
    with Image.open(explained / "a.png.explained.png") as sheet:
        assert sheet.width == 20 + 3 * (SIDE + 20) and not sheet.text  # type: ignore[attr-defined]
    page = (explained / "index.html").read_text(encoding="utf-8")
    assert page.count("<img ") == 9 and page.count("P(fake)") == 3 and "<script" not in page
    assert "not an image format that Pillow knows" in page and CANNOT_TELL in html.unescape(page)
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", page)


def test_no_caption_reaches_into_the_next_panel(explained: Path) -> None:
    """The long name of the method, as that of tokens: between two panels the sheet is white at every height."""
    long = "Grad-CAM of the tokens at " + "a_module_with_a_long_name." * 5 + ", carried back by attention rollout"
    image, heat = np.zeros((64, 64, 3), np.uint8), np.zeros((4, 4))
    judgement = Judgement("a" * 300 + "/end.jpg", 0.5, "fake", 0.1, True)
    sheet = explanation_picture(Explanation(judgement, image, heat, long, "fake", np.zeros((64, 64))), Policy(0.5))
    below = np.asarray(sheet)[20 + 62 + SIDE + 8 : -60]
    for place in (1, 2):
        gap = 20 + place * (SIDE + 20) - 20
        assert (below[:40, gap + 4 : gap + 18] == 255).all()
    assert (np.asarray(sheet)[:, -18:] == 255).all()


def test_without_occlusion_there_are_two_panels(trained: Trained, tiny: Tiny, tmp_path: Path) -> None:
    file, options = tiny.root / tiny.rows["path"].iloc[0], ["--no-occlusion", "--toward", "real"]
    asked = ["explain", "--model", str(trained.model), "--out", str(tmp_path / "new" / "out"), *options, str(file)]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 0, result.output
    page = (tmp_path / "new" / "out" / "index.html").read_text(encoding="utf-8")
    assert page.count("<img ") == 2 and "What counted for real" in page


def test_the_page_renders_alone_and_can_be_read(explained: Path, browser: Any) -> None:  # noqa: F811
    for width in (390, 1280):
        for scheme in ("light", "dark"):
            with opened(browser, explained / "index.html", width=width, scheme=scheme, trust=True) as seen:  # type: ignore[arg-type]
                assert not seen.complaints and all(r.startswith(("file:", "data:")) for r in seen.requests)
                assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
                assert seen.page.evaluate("window.__pwned") is None
                assert seen.page.evaluate("[...document.images].every((i) => i.naturalWidth > 0)")
                for what, text, behind in seen.page.evaluate(COLOURS):
                    assert contrast(text, behind) >= 4.5, what
