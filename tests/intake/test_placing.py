"""Where DVC looks for several sets."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from set_cases import csv_set, two

from ffdi.doctor.data_root import root_diagnoses
from ffdi.errors import InputError
from ffdi.intake.listing.placing import place_root
from ffdi.intake.settings import DataSettings, SetSettings


def test_the_place_of_several_sets_is_made_and_unmade(tmp_path: Path) -> None:
    a, b, out = csv_set(tmp_path / "a", 0, 4), csv_set(tmp_path / "b", 10, 4), tmp_path / "data/root"
    (a / "deep/er").mkdir(parents=True)
    (a / "deep/er/x.jpg").write_bytes(b"x")
    for _ in range(2):
        assert place_root(two(a, b), out, Path) == []
        files = {file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()}
        assert {"a/labels.csv", "a/deep/er/x.jpg", "b/03.jpg"} < files
        assert all(file.is_symlink() for file in out.rglob("*") if file.is_file())
    place_root(DataSettings(str(a)), out, Path)
    assert out.is_symlink() and out.resolve() == a
    place_root(two(a, b), out, Path)
    (out / "a/mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is no link and no manifest, but ffdi needs its place"):
        place_root(two(a, b), out, Path)
    assert (out / "a/mine.txt").read_text() == "mine" and (a / "03.jpg").exists()
    (out / "a/mine.txt").unlink()
    with pytest.raises(InputError, match=rf"^none: data.root: {tmp_path}/none: no such folder or archive"):
        place_root(two(a, tmp_path / "none"), out, Path)


def test_dvc_sees_a_change_in_each_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC follows links to files inside of a dependency, and none to folders."""
    from dvc.repo import Repo

    a, b = csv_set(tmp_path / "a", 0, 2), csv_set(tmp_path / "b", 10, 2)
    archive = Path(shutil.make_archive(str(tmp_path / "c"), "zip", b))
    data = DataSettings(tuple(SetSettings(root=str(root)) for root in (a, b, archive)))
    repo = tmp_path / "repo"
    place_root(data, repo / "root", Path)
    (repo / "dvc.yaml").write_text("stages: {s: {cmd: echo x > out, deps: [root], outs: [out: {cache: false}]}}\n")
    monkeypatch.chdir(repo)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    Repo.init(no_scm=True).close()

    def run_and_status() -> Any:
        with Repo() as opened:
            opened.reproduce()
        with Repo() as opened:
            return opened.status()

    def status() -> Any:
        with Repo() as opened:
            return opened.status()

    assert run_and_status() == {}
    changes: list[Callable[[], Any]] = [
        lambda: (a / "00.jpg").write_bytes(b"other"),
        lambda: (b / "labels.csv").write_text("path,label\n00.jpg,0\n"),
        lambda: archive.write_bytes(b"other"),
    ]
    for change in changes:
        change()
        assert status() == {"s": [{"changed deps": {"root": "modified"}}]}
        assert run_and_status() == {}


def test_the_doctor_sees_what_dvc_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = two(csv_set(tmp_path / "a", 0, 2), csv_set(tmp_path / "b", 10, 2))

    def states() -> list[str]:
        return [found.state for found in root_diagnoses(data, "project")]

    assert states() == ["ok", "ok"]  # before the first run
    place_root(data, Path("data/root"), Path)
    assert states() == ["ok", "ok"]
    (tmp_path / "b/new.jpg").write_bytes(b"x")
    assert states() == ["ok", "note"]
    told = list(root_diagnoses(data, "project"))[1]
    assert told.found == f"{tmp_path}/b is there, with other files than data/root/b"
    assert told.remedy == "dvc repro --single-item --force root"
    place_root(DataSettings(str(tmp_path / "b")), Path("data/root"), Path)
    assert [one.state for one in root_diagnoses(DataSettings(str(tmp_path / "b")), "project")] == ["ok"]
