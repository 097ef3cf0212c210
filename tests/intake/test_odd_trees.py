"""Every kind of odd_trees.py through the walk, a layout and ingest, and its tables in docs/data.md."""

from pathlib import Path

import pytest
from odd_trees import DOCS, SPELLINGS, TREES, Tree, files, in_docs

from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.ingest import ingest
from ffdi.intake.listing.layouts import read_layout
from ffdi.intake.settings import DataSettings


@pytest.mark.parametrize("tree", [*TREES, *SPELLINGS], ids=lambda tree: tree.given[:40])
def test_what_becomes_of_it(tree: Tree, tmp_path: Path) -> None:
    files("real/a.jpg", "fake/b.jpg")(tmp_path)
    tree.plant(tmp_path)
    layout, own = DataSettings(".", "imagefolder"), {"real/a.jpg", "fake/b.jpg"}
    if tree.listed is not None:
        rows = ["path,label", "real/a.jpg,0", "fake/b.jpg,1", *(f"{name},1" for name in tree.listed(tmp_path))]
        (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        layout = DataSettings(".", "csv")
    listing = read_layout(tmp_path, layout)
    intake = ingest(listing.rows, ImageSource(tmp_path, 10**6), max_rejected=1.0, closest=listing.closest)
    assert set(intake.images["path"]) == own | set(tree.read)
    assert set(intake.rejected["path"]) == set(tree.rejected)
    reasons = dict(listing.skipped)
    for path, reason in tree.skipped.items():
        assert reason in reasons[path], path
    if tree.rejected and tree.listed:
        assert intake.rejected["reason"].str.contains("the closest name is 'fake/c").all()
    if tree in SPELLINGS and tree.read and not tree.given.startswith("`./`"):
        assert any("spelt otherwise on disk" in line for line in listing.messages)


def test_the_docs_have_the_tables() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert in_docs(text) == text, "python tests/odd_trees.py writes them anew"
