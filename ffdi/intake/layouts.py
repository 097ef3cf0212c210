"""A data set's own layout -> one table of (path, label, group, given_split, attr_*), a row per listed image.

`path` is POSIX and relative to the root; `label` 0 or 1; `group` "" where nothing is known; `given_split` train, test
or "". No image is opened here.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import pandas as pd

from ffdi.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2")
COLUMNS = ("path", "label", "group", "given_split")
SPLIT_NAMES = {"": "", "train": "train", "test": "test", "val": "test", "valid": "test", "validation": "test"}


def read_layout(
    root: Path, *, layout: str, table: str, classes: Mapping[str, int], group: str | None, limit: int | None
) -> tuple[pd.DataFrame, int]:
    """(rows, number of image files on disk that the layout does not list).

    `group`: a regular expression with (?P<group>...) searched in the path, for rows that have no group of their own.
    `limit`: the first rows of each given split. Raises InputError naming file, row and rule.
    """
    if not root.is_dir():
        raise InputError(f"{root}: data.root is no folder")
    if layout == "imagefolder":
        rows = _imagefolder(root, classes)
    elif layout == "csv":
        rows = _csv(root, table)
    else:
        rows = _multi_ffdi(root)
    if not rows:
        raise InputError(f"{root}: layout {layout} lists no image")
    listed = pd.DataFrame(rows).fillna("")
    if limit is not None:
        listed = listed.groupby("given_split", sort=False).head(limit).reset_index(drop=True)
    if group is not None:
        listed["group"] = [g or _match(group, p) for g, p in zip(listed["group"], listed["path"], strict=True)]
    known = {row["path"] for row in rows}
    return listed, sum(1 for path in image_files(root) if path not in known)


def image_files(root: Path) -> Iterable[str]:
    """Sorted POSIX paths, relative to root, of all files with an image's suffix; hidden ones are passed over."""
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in path.relative_to(root).parts):
            yield path.relative_to(root).as_posix()


def _match(pattern: str, path: str) -> str:
    found = re.search(pattern, path)
    return (found["group"] or "") if found else ""


def _imagefolder(root: Path, classes: Mapping[str, int]) -> list[dict[str, object]]:
    """root/CLASS/**/image: the first folder's name gives the label."""
    rows: list[dict[str, object]] = []
    for path in image_files(root):
        if not path.isascii() and path != path.encode(errors="replace").decode():
            raise InputError(f"{root}: file name {path!r} is not UTF-8: rename it")
        folder = path.split("/")[0] if "/" in path else ""
        if folder not in classes:
            where = f"folder {folder!r}" if folder else f"{path!r} outside any class folder"
            raise InputError(f"{root}: {where}: not in data.classes ({', '.join(classes)})")
        rows.append({"path": path, "label": classes[folder], "group": "", "given_split": ""})
    return rows


def _csv(root: Path, table: str) -> list[dict[str, object]]:
    """A table inside root with columns path, label and, if there, group and split; all others become attr_*."""
    file = root / table
    rows: list[dict[str, object]] = []
    for number, record in _records(file, ("path", "label")):
        split = record.get("split", "").lower()
        if split not in SPLIT_NAMES:
            raise InputError(f"{file}: row {number}: split {split!r} is not one of train, test, val")
        rows.append(
            {
                "path": safe_path(root, record["path"], file, number),
                "label": _label(record["label"], file, number),
                "group": record.get("group", ""),
                "given_split": SPLIT_NAMES[split],
            }
            | {f"attr_{k}": v for k, v in record.items() if k not in ("path", "label", "group", "split")}
        )
    return rows


def _multi_ffdi(root: Path) -> list[dict[str, object]]:
    """trainset/ and valset/ with trainset_label.txt and valset_label.txt (img_name,target; 1 = fake)."""
    rows: list[dict[str, object]] = []
    for name, split in (("trainset", "train"), ("valset", "test")):
        file = root / f"{name}_label.txt"
        for number, record in _records(file, ("img_name", "target")):
            rows.append(
                {
                    "path": safe_path(root, f"{name}/{record['img_name']}", file, number),
                    "label": _label(record["target"], file, number),
                    "group": "",
                    "given_split": split,
                }
            )
    return rows


def _records(file: Path, required: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """(line number of the row, its fields stripped of spaces); a BOM and CRLF are read away."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = file.read_bytes()[: error.start].count(b"\n") + 1
        raise InputError(f"{file}: row {line}: not UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    out = []
    try:
        header = [name.strip() for name in next(reader, [])]
        if missing := [name for name in required if name not in header]:
            raise InputError(f"{file}: no column {missing[0]!r}; the header is {','.join(header)!r}")
        if len(set(header)) < len(header):
            raise InputError(f"{file}: a column stands twice in the header {','.join(header)!r}")
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if len(fields) != len(header):
                raise InputError(f"{file}: row {reader.line_num}: {len(fields)} fields, the header has {len(header)}")
            out.append((reader.line_num, dict(zip(header, (f.strip() for f in fields), strict=True))))
    except csv.Error as error:
        raise InputError(f"{file}: row {reader.line_num}: {error}") from None
    if not out:
        raise InputError(f"{file}: no rows")
    return out


def _label(value: str, file: Path, number: int) -> int:
    if value not in ("0", "1"):
        raise InputError(f"{file}: row {number}: label {value!r} is neither 0 (real) nor 1 (fake)")
    return int(value)


def safe_path(root: Path, path: str, file: Path, number: int) -> str:
    """`path` if it stays inside root, symlinks followed; else InputError with the row number."""
    pure = PurePosixPath(path)
    outside = pure.is_absolute() or ".." in pure.parts or not pure.parts
    try:
        outside = outside or not (root / pure).resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError) as error:  # a loop of symlinks, a NUL
        raise InputError(f"{file}: row {number}: path {path!r} is no path: {error}") from None
    if outside:
        raise InputError(f"{file}: row {number}: path {path!r} leads out of {root}")
    return pure.as_posix()
