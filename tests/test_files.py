"""Outputs are complete or absent, and have one writer."""

import errno
import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ffdi import files
from ffdi.errors import FfdiError, InputError, LockedError
from ffdi.files import (
    cache_folders,
    canonical_json,
    human_bytes,
    in_cache,
    refuse_other_folder,
    refuse_overlap,
    replacing,
    replacing_folder,
    sha256_file,
    sole_writer,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_replacing_leaves_the_old_file_and_nothing_else_on_error(tmp_path: Path, error: type[BaseException]) -> None:
    file = tmp_path / "out.csv"
    file.write_text("old")

    def half() -> None:
        with replacing(file) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        half()
    assert file.read_text() == "old" and names(tmp_path) == ["out.csv"]


def test_replacing_is_not_seen_before_it_ends(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "out.txt"
    with replacing(file) as temporary:
        temporary.write_text("new")
        assert not file.exists() and temporary.parent == file.parent
    assert file.read_text() == "new" and names(file.parent) == ["out.txt"]


@pytest.mark.parametrize("place", ["file/out.txt", "folder"])
def test_what_cannot_be_written_is_said_on_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("a file where a folder is due")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FfdiError, match="cannot be written") as caught:
        write_text(tmp_path / place, "text")
    assert str(tmp_path / place) in str(caught.value) and "\n" not in str(caught.value)
    assert names(tmp_path) == ["file", "folder"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_umask_is_respected(tmp_path: Path, mask: int, mode: int) -> None:
    old = os.umask(mask)
    try:
        with replacing(tmp_path / "file") as temporary:
            temporary.touch(mode=0o600)  # as libraries do that write for the owner alone
        with replacing_folder(tmp_path / "folder"):
            pass
        assert os.umask(mask) == mask  # left as it was
    finally:
        os.umask(old)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~mask


def test_replacing_folder(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    for name in ("first", "second"):
        with replacing_folder(folder) as temporary:
            (temporary / name).touch()
    assert names(folder) == ["second"]  # a former run's files are gone
    with pytest.raises(FileExistsError), replacing_folder(folder) as temporary:
        temporary.mkdir()
    assert names(folder) == ["second"] and names(tmp_path) == ["out"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_write_json_refuses_what_is_no_json(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError):
        write_json(tmp_path / "m.json", {"auc": value})
    assert names(tmp_path) == []
    with pytest.raises(ValueError):
        canonical_json({"auc": value})


def test_json_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "m.json", {"b": 1, "a": "é"})
    assert (tmp_path / "m.json").read_bytes() == '{\n  "b": 1,\n  "a": "é"\n}\n'.encode()  # order as given
    assert canonical_json({"b": [1, 2], "a": "é"}) == '{"a":"é","b":[1,2]}'.encode()
    assert json.loads(canonical_json({"x": 1e-4})) == {"x": 1e-4}


def test_sha256_file(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    (tmp_path / "file").write_bytes(data)
    assert sha256_file(tmp_path / "file") == hashlib.sha256(data).hexdigest()


HOLD = """
import sys
from pathlib import Path
from ffdi.files import sole_writer
with sole_writer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_sole_writer_refuses_a_second_process_and_names_the_first(tmp_path: Path) -> None:
    folder = tmp_path / "features"
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout and holder.stdin
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match=rf"PID {holder.pid}\b"), sole_writer(folder):
            pass
        holder.stdin.close()
        assert holder.wait() == 0
    with sole_writer(folder):  # free again
        pass


def test_a_killed_writer_blocks_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "features"
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        holder.stdout.readline()
        holder.kill()
        holder.wait()
    with sole_writer(folder), pytest.raises(LockedError, match=rf"PID {os.getpid()}\b"), sole_writer(folder):
        pass


NO_LOCKS = [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL]


def no_locks(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Files as on NFS without its lock service, or Lustre mounted without flock."""

    def refuse(file: object, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.parametrize("code", NO_LOCKS)
def test_a_disk_without_locks_is_said_with_its_cure(tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    no_locks(monkeypatch, code)
    folder, says = tmp_path / "features", r"features\.lock: .*no locks \(.*FFDI_LOCKS=off"
    with pytest.raises(FfdiError, match=says) as caught, sole_writer(folder):
        pytest.fail("two could write")
    assert os.strerror(code) in str(caught.value) and "\n" not in str(caught.value)
    assert not isinstance(caught.value, LockedError)  # nobody holds it
    monkeypatch.setenv("FFDI_LOCKS", "off")
    with sole_writer(folder):
        assert names(tmp_path) == ["features.lock", "features.lock.pid"]


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EACCES])
def test_some_disks_call_a_held_lock_a_denied_one(tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    no_locks(monkeypatch, code)
    with pytest.raises(LockedError, match="being written by another process"), sole_writer(tmp_path / "features"):
        pass


def test_a_file_that_a_killed_run_left_blocks_nobody(tmp_path: Path) -> None:
    """A lock that is the mere existence of its file, as filelock's on a disk without flock, would stay for ever."""
    (tmp_path / "features.lock").write_text("4194304\nanother-host\n")
    (tmp_path / "features.lock.pid").write_text("4194304\n")
    with sole_writer(tmp_path / "features"):
        assert (tmp_path / "features.lock.pid").read_text() == f"{os.getpid()}\n"


def test_a_folder_that_cannot_be_written_is_said_before_its_lock(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "features"
    with pytest.raises(FfdiError, match=r"file/features\.lock: cannot be written: "), sole_writer(folder):
        pass


@pytest.fixture
def own_caches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No temporary cache from another test, and none for another."""
    monkeypatch.setattr(files, "_temporary", [])
    yield
    for made in files._temporary:
        made.cleanup()


def write(folder: Path) -> Path:
    write_text(folder / "graph", "graph")
    return folder / "graph"


@pytest.mark.usefixtures("own_caches")
@pytest.mark.parametrize("place", ["/proc/1/nope", "{}/file", "{}/file/below", "full", None])
def test_a_cache_that_cannot_be_written_stops_nobody(
    tmp_path: Path, place: str | None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    if place is None:  # a container's user without a home
        monkeypatch.delenv("FFDI_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    else:
        monkeypatch.setenv("FFDI_CACHE", place.format(tmp_path))
    if place == "full":
        monkeypatch.chdir(tmp_path)
        full = Path("full/graph")
        real = os.replace

        def replace(a: Path, b: Path) -> None:
            if b == full:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(a, b)

        monkeypatch.setattr(os, "replace", replace)
    made = [in_cache(write), in_cache(write)]
    assert made[0] == made[1] and made[0].read_text() == "graph"
    assert made[0].parent in cache_folders()
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and "set FFDI_CACHE" in said


@pytest.mark.usefixtures("own_caches")
def test_a_cache_is_not_blamed_for_what_is_wrong_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFDI_CACHE", str(tmp_path / "deep" / "cache"))

    def damaged(folder: Path) -> None:
        raise InputError("x.zip: damaged")

    with pytest.raises(InputError, match="damaged"):
        in_cache(damaged)
    assert in_cache(write) == tmp_path / "deep" / "cache" / "graph"
    assert cache_folders() == [tmp_path / "deep" / "cache"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (12_345_678, "12.3 MB"), (157e9, "157 GB"), (2e15, "2e+03 TB")],
)
def test_human_bytes(count: float, text: str) -> None:
    assert human_bytes(count) == text


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    def refuse(folder: Path) -> None:
        refuse_other_folder(folder, "kind.json", lambda record: record.get("kind") == "ours", "thing of ours")

    refuse(tmp_path / "new")
    refuse(tmp_path)  # empty
    for content in ("no JSON", "[]", '{"kind": "other", "note": "\\"kind\\": \\"ours\\""}'):
        (tmp_path / "kind.json").write_text(content)
        with pytest.raises(InputError, match="exists and is no thing of ours: name another folder"):
            refuse(tmp_path)
    (tmp_path / "kind.json").write_text('{"kind": "ours"}')
    refuse(tmp_path)
    with pytest.raises(InputError, match="exists and is no thing of ours"):
        refuse(tmp_path / "kind.json")


@pytest.mark.parametrize("out", ["models/one", "models/one/new", "models", "models/one/../one"])
def test_an_output_neither_is_the_model_nor_lies_within_or_around_it(tmp_path: Path, out: str) -> None:
    refuse_overlap(tmp_path / "models/one-new", tmp_path / "models/one")
    with pytest.raises(InputError, match="is the model itself, within it or around it: name another folder"):
        refuse_overlap(tmp_path / out, tmp_path / "models/one")
