"""Every kind of odd_files.py through open_image and ingest, and docs/data.md's table of them."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from odd_files import DOCS, FILES, Odd, in_docs

from ffdi.intake.images import UnreadableImage, open_image
from ffdi.intake.ingest import ingest

MAX_PIXELS = 10**6


@pytest.fixture(params=FILES, ids=[odd.given for odd in FILES])
def odd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Odd:
    """A kind of file, with the plugin that it is read by, or without that whose absence is the matter."""
    found: Odd = request.param
    if found.needs.startswith("no "):
        monkeypatch.setitem(sys.modules, found.needs.removeprefix("no "), None)
    elif found.needs:
        pytest.importorskip(found.needs)
        importlib.import_module({"pillow_heif": "pillow_heif.HeifImagePlugin"}.get(found.needs, found.needs))
    return found


def test_what_becomes_of_it(odd: Odd) -> None:
    assert odd.becomes.startswith("rejected") == (odd.due is None) == bool(odd.reason)
    for number, make in enumerate((odd.make, *odd.also)):
        if odd.due is None:
            with pytest.raises(UnreadableImage) as caught:
                open_image(make(), max_pixels=MAX_PIXELS)
            assert str(caught.value).startswith(odd.reason), number
            continue
        found, due = np.asarray(open_image(make(), max_pixels=MAX_PIXELS), float), np.asarray(odd.due(), float)
        assert found.shape == due.shape, number
        assert np.abs(found - due).mean() <= odd.off, number


def test_ingest_lists_each_as_read_or_rejected(tmp_path: Path) -> None:
    here = [odd for odd in FILES if not odd.needs]
    for i, odd in enumerate(here):
        (tmp_path / f"{i:02d}").write_bytes(odd.make())
    listed = pd.DataFrame({"path": [f"{i:02d}" for i in range(len(here))], "label": 0, "group": "", "given_split": ""})
    found = ingest(listed, tmp_path, max_pixels=MAX_PIXELS, max_rejected=1)
    refused = {path: here[int(path)].reason for path, _ in found.rejected.itertuples(index=False)}
    assert set(refused) == {f"{i:02d}" for i, odd in enumerate(here) if odd.due is None}
    assert all(reason.startswith(refused[path]) for path, reason in found.rejected.itertuples(index=False))
    assert len(found.images) + found.duplicates == len(here) - len(refused)


def test_the_docs_have_the_table() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert in_docs(text) == text, "python tests/intake/odd_files.py writes it anew"
