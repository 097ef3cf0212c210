"""Layout multi_ffdi: the two label files and image folders of the Multi-FFDI challenge."""

from __future__ import annotations

from pathlib import Path

from ffdi.intake.listing.evidence import Labelled
from ffdi.intake.listing.importer import Importer, LayoutFit, RootFiles
from ffdi.intake.listing.label_files import LabelFile, inside, read_label_file
from ffdi.intake.listing.labels import Classes, labels_of
from ffdi.intake.listing.layout_rows import Columns, LayoutRows
from ffdi.intake.settings import DataSettings

# Where the two may be: in the root or in its folder phase1.
LABEL_FILES = tuple(f"{top}{name}_label.txt" for top in ("", "phase1/") for name in ("trainset", "valset"))


def read_multi_ffdi(root: Path, classes: Classes) -> LayoutRows:
    """trainset/ and valset/ with trainset_label.txt and valset_label.txt (img_name,target; 1 = fake).

    They are in root or in its folder phase1.
    """
    top = "" if (root / "trainset_label.txt").exists() or not (root / "phase1").is_dir() else "phase1/"
    columns: Columns = {"path": [], "label": [], "group": [], "given_split": []}
    tables: list[LabelFile] = []
    files = [f"{top}{name}_label.txt" for name in ("trainset", "valset")]
    for file, name, split in zip(files, ("trainset", "valset"), ("train", "test"), strict=True):
        table = read_label_file(root / file, ("img_name", "target"), root=root / f"{top}{name}")
        columns["path"] += inside(root, f"{top}{name}/", table, "img_name")
        columns["label"] += labels_of(table, "target", classes)
        columns["group"] += [""] * len(table.lines)
        columns["given_split"] += [split] * len(table.lines)
        tables.append(table)
    in_both = [name for name in tables[0].columns if name != "img_name" and name in tables[1].columns]
    evidence = {name: [*tables[0].columns[name], *tables[1].columns[name]] for name in in_both}
    paths, labels = columns["path"], columns["label"]
    labelled = Labelled(str(root), paths, paths, evidence["target"], labels, evidence, classes.given is not None)
    told = tuple(table.told for table in tables if table.told)
    return LayoutRows(columns, labelled, ("target ", ""), tuple(files), messages=told)


def _recognise(files: RootFiles, data: DataSettings) -> list[LayoutFit]:
    there = [file for file in LABEL_FILES if file in files.others]
    return [LayoutFit(" and ".join(there), own_table=True)] if len(there) > 1 else []


MULTI_FFDI = Importer(
    lambda files, data: read_multi_ffdi(files.root, Classes(data.classes)),
    recognise=_recognise,
    names=lambda data: LABEL_FILES,
)
