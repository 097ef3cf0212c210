"""A set of face crops that is there already: what another run does, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from raw_sets import StubDetector, files_of, labels, made, patched_detector, settings, write_raw_set

from ffdi.errors import InputError, LockedError
from ffdi.faces.crop_set import make_crop_set
from ffdi.files import sole_writer


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_raw_set(tmp_path)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> StubDetector:
    return patched_detector(monkeypatch)


def test_too_many_rejected_stop_the_run_and_what_was_searched_stays(raw: Path, stub: StubDetector) -> None:
    with pytest.raises(InputError) as caught:
        made(raw, max_rejected=0.2)
    assert str(caught.value).startswith(
        "1 of 4 photos and videos are rejected (1 no face), more than max_rejected = 0.2: mend or remove them, or raise it; "
        "the first are fake/d.png: no face; those so far are in "
    )
    assert "fake/d.png,no face" in (raw.parent / "set" / "rejected.csv").read_text()
    assert not (raw.parent / "set" / "labels.csv").exists()
    asked = stub.asked
    made(raw, max_rejected=0.25)
    assert stub.asked - asked < 4


def test_a_second_run_decodes_nothing_and_changes_no_byte(raw: Path, stub: StubDetector) -> None:
    made(raw)
    before, asked = files_of(raw.parent / "set"), stub.asked
    done = made(raw)
    assert stub.asked == asked and files_of(raw.parent / "set") == before
    assert "4 searched before" in done.line


def test_the_number_of_workers_changes_no_byte(raw: Path, stub: StubDetector) -> None:
    for workers in (1, 2, 9):  # nine of them for four sources: two threads within each
        make_crop_set(raw, settings(), raw.parent / f"set{workers}", workers=workers)
    assert files_of(raw.parent / "set1") == files_of(raw.parent / "set2") == files_of(raw.parent / "set9")


def test_a_renamed_source_and_another_label_cost_no_decoding(raw: Path, stub: StubDetector) -> None:
    made(raw)
    asked = stub.asked
    (raw / "real" / "a.png").rename(raw / "fake" / "z.png")
    made(raw)
    assert stub.asked == asked
    assert labels(raw).set_index("source")["label"].to_dict() == {
        "fake/c.png": "1",
        "fake/z.png": "1",
        "real/b.png": "0",
    }


def test_other_settings_make_all_anew_and_leave_nothing_behind(raw: Path, stub: StubDetector) -> None:
    made(raw)
    asked = stub.asked
    made(raw, format="jpeg-95", size=48)
    assert stub.asked == asked + 4
    fresh = make_crop_set(raw, settings(format="jpeg-95", size=48), raw.parent / "fresh", workers=1)
    assert fresh.crops == 3 and files_of(raw.parent / "fresh") == files_of(raw.parent / "set")


def test_another_limit_of_rejected_ones_makes_nothing_anew(raw: Path, stub: StubDetector) -> None:
    made(raw)
    asked = stub.asked
    made(raw, max_rejected=0.9, group="/(?P<group>[abcd])")
    assert stub.asked == asked and list(labels(raw)["group"]) == ["c", "a", "b"]


def test_crops_of_a_source_that_is_gone_are_deleted(raw: Path, stub: StubDetector) -> None:
    made(raw)
    gone = labels(raw).set_index("source")["path"]["real/a.png"]
    (raw / "real" / "a.png").unlink()
    draft = raw.parent / "set" / "crops" / ".x.png.host.1.tmp"
    draft.write_text("of a run that was killed")
    made(raw, max_rejected=0.5)
    assert not (raw.parent / "set" / gone).exists() and not draft.exists()
    assert sum(name.startswith("crops/") for name in files_of(raw.parent / "set")) == 2


def test_a_crop_that_was_changed_or_lost_is_made_again(raw: Path, stub: StubDetector) -> None:
    made(raw)
    before, asked = files_of(raw.parent / "set"), stub.asked
    paths = list(labels(raw)["path"])
    (raw.parent / "set" / paths[0]).write_bytes(b"edited")
    (raw.parent / "set" / paths[1]).unlink()
    made(raw)
    assert files_of(raw.parent / "set") == before and stub.asked == asked + 2


def test_a_source_whose_crops_are_lost_and_that_cannot_be_read_any_more_has_none(
    raw: Path, stub: StubDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(raw)
    (raw.parent / "set" / labels(raw)["path"][0]).unlink()
    from ffdi.faces import source_task
    from ffdi.intake.decoding.images import UnreadableImage

    def fails(*_: Any, **__: Any) -> Any:
        raise UnreadableImage("damaged")

    monkeypatch.setattr(source_task, "faces_of_source", fails)
    assert made(raw, max_rejected=0.5).rejected == 2
    assert list(labels(raw)["source"]) == ["real/a.png", "real/b.png"]


def test_a_journal_whose_last_line_is_torn_is_gone_on_from(raw: Path, stub: StubDetector) -> None:
    made(raw)
    before, asked = files_of(raw.parent / "set"), stub.asked
    journal = raw.parent / "set" / ".sources.jsonl"
    journal.write_bytes(journal.read_bytes()[:-1])  # parses, but the next line would be joined to it
    made(raw)
    assert files_of(raw.parent / "set") == before and stub.asked == asked + 1
    journal.write_bytes(journal.read_bytes()[:-30])
    made(raw)
    assert files_of(raw.parent / "set") == before and stub.asked == asked + 2


def test_a_folder_of_other_files_is_refused_and_left_alone(raw: Path, stub: StubDetector) -> None:
    (raw.parent / "set").mkdir()
    (raw.parent / "set" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="has files, and is no set of face crops: name another folder"):
        made(raw)
    assert list(files_of(raw.parent / "set")) == ["thesis.txt"]


def test_a_second_writer_is_refused(raw: Path, stub: StubDetector) -> None:
    with sole_writer(raw.parent / "set"), pytest.raises(LockedError, match="is being written by another process"):
        made(raw)
