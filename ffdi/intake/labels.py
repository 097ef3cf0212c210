"""What labels mean: 1 is fake, and the words that public data sets use for it."""

from __future__ import annotations

from ffdi.intake.label_files import LabelFile

# What the class folders of public data sets are called.
_REAL = "real reals original originals authentic genuine pristine bonafide live 0_real training_real original_sequences"
_FAKE = (
    "fake fakes forged forgery manipulated tampered altered edited synthetic generated deepfake deepfakes spoof 1_fake "
    "training_fake manipulated_sequences face2face faceswap faceshifter neuraltextures deepfakedetection"
)
CLASSES: dict[str, int] = {"real": 0, "fake": 1} | dict.fromkeys(_REAL.split(), 0) | dict.fromkeys(_FAKE.split(), 1)


def labels_of(table: LabelFile, name: str) -> list[int]:
    column = table.columns[name]
    if wrong := set(column).difference(("0", "1")):
        row = next(i for i, value in enumerate(column) if value in wrong)
        raise table.error(row, f"label {column[row]!r} is neither 0 (real) nor 1 (fake)")
    return [int(value) for value in column]
