"""bundle.json of a recipe or an ensemble: read and checked without its weights, and so without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffdi.errors import BundleError
from ffdi.files import canonical_json, sha256_file

FORMAT_VERSION = 4  # of a recipe's
ENSEMBLE_VERSION = 1
KIND = "ensemble"


def record_hash(record: Mapping[str, Any]) -> str:
    """sha256 of the other entries of bundle.json. Without it an edited threshold would go unnoticed."""
    return hashlib.sha256(canonical_json({k: v for k, v in record.items() if k != "facts_sha256"})).hexdigest()


ANEW = "copy the whole folder anew (dvc checkout), or train again"


def read_record(folder: Path) -> dict[str, Any]:
    """bundle.json of a recipe or an ensemble, not checked yet; BundleError when it is missing or holds no mapping."""
    try:
        record = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        what = "missing: name a folder such as data/models/NAME, which `dvc repro train@NAME` writes"
        raise BundleError(f"{folder / 'bundle.json'}: {what}") from None
    except ValueError as error:
        raise BundleError(f"{folder / 'bundle.json'}: not JSON ({error}): {ANEW}") from error
    return record if isinstance(record, dict) else {}


def is_ensemble(record: Mapping[str, Any]) -> bool:
    """Whether a bundle.json is of an ensemble."""
    return record.get("kind") == KIND


def refuse_changed(folder: Path, record: Mapping[str, Any]) -> None:
    """BundleError when bundle.json is of another format than this ffdi writes, or was edited."""
    version = ENSEMBLE_VERSION if is_ensemble(record) else FORMAT_VERSION
    if (found := record.get("format_version")) != version:
        raise BundleError(
            f"{folder}: bundle format {found}, this ffdi reads {version}: use the ffdi that wrote it, or train again"
        )
    if record.get("facts_sha256") != record_hash(record):
        raise BundleError(f"{folder / 'bundle.json'}: was changed: its hash of its own entries differs: {ANEW}")


def refuse_changed_files(folder: Path, record: Mapping[str, Any]) -> None:
    """BundleError when a file that scoring reads is missing or has another sha256 than bundle.json says."""
    for name in record["sha256"]:
        if name not in unread_files(record):
            refuse_changed_file(folder, record, name)


def refuse_changed_file(folder: Path, record: Mapping[str, Any], name: str) -> None:
    """BundleError when a file that bundle.json names is missing or has another sha256."""
    if not (folder / name).exists():
        raise BundleError(f"{folder / name}: missing: {ANEW}")
    if sha256_file(folder / name) != record["sha256"][name]:
        raise BundleError(f"{folder / name}: sha256 differs from bundle.json: the file was changed: {ANEW}")


def fold_file(fold: int | str) -> str:
    """The file of the tail of a fold."""
    return f"fold-{fold}.safetensors"


def unread_files(record: Mapping[str, Any]) -> list[str]:
    """The files that scoring does not read, and that a copy of the bundle may lack: the folds' tails of a refit recipe.

    bundle.json stays as it is without them, and so do its hashes.
    """
    return [fold_file(fold) for fold in record["val_auc"]] if "refit" in record else []


def seen_file(record: Mapping[str, Any]) -> str:
    """The table of the images of the training, csv or Parquet."""
    return next((name for name in record["sha256"] if name.startswith("seen.")), "seen.csv")


def files_there(folder: Path, record: Mapping[str, Any]) -> list[str]:
    """The files that bundle.json names, without unread ones that the folder lacks."""
    return [name for name in record["sha256"] if name not in unread_files(record) or (folder / name).exists()]
