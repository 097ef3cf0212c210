"""A recalibrated model on disk: its parent's files byte for byte, a new bundle.json, and a longer seen.csv."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ffdi.bootstrap import Bootstrap
from ffdi.console import Console
from ffdi.errors import InputError
from ffdi.evaluation.other_data import resampling_groups, seen_before
from ffdi.evaluation.recalibration import Recalibration, recalibrate, refuse_too_few, scores_at
from ffdi.files import refuse_other_folder, refuse_overlap, replacing_folder, sha256_file, write_json
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.ingest import ingest
from ffdi.intake.listing.layouts import read_layout
from ffdi.intake.settings import DataSettings
from ffdi.intake.tables import write_table
from ffdi.tails.model import Model
from ffdi.tails.policy_settings import Abstain, PolicySettings, ThresholdRule
from ffdi.tails.predict import score_files
from ffdi.tails.record import files_there, record_hash, seen_file


@dataclass(frozen=True)
class FewImages:
    """Labelled images of a domain: `images` as of images.csv, with the group that each is drawn with; `seen` are those that
    were left out because the model was trained on them or on a near-duplicate."""

    source: ImageSource
    images: pd.DataFrame
    seen: pd.DataFrame

    @classmethod
    def read(
        cls, table: Path, source: ImageSource, model: Model, *, phash_bits: int = 6, console: Console = Console()
    ) -> FewImages:
        """Read a table with path, label and, if known, group; raises InputError as ingest does, or when too few are left."""
        if not isinstance(source.root, Path):
            raise InputError(f"{source.root}: is a URL: name a folder of this machine, as a few images are")
        data = DataSettings(root=str(source.root), layout="csv", table=str(table.resolve()))
        listing = read_layout(source.root, data)
        for line in listing.messages:
            console.say(line)
        images = ingest(listing.rows, source, console=console).images
        seen, cluster = seen_before(model, images, phash_bits)
        kept = images.assign(group=resampling_groups(list(images["group"]), cluster))[~seen]
        refuse_too_few(kept["label"].to_numpy(), kept["group"].to_numpy(str))
        return cls(source, kept, images[seen])


def policy_settings_of(model: Model) -> PolicySettings:
    """How the policy of a model was set."""
    facts = model.policy.facts
    rule = ThresholdRule(facts.get("rule", "youden"), facts.get("threshold_at", ThresholdRule.at))
    return PolicySettings(rule, Abstain(facts["abstain_error"]) if "abstain_error" in facts else None)


def recalibrate_model(
    model: Model,
    few: FewImages,
    settings: PolicySettings,
    *,
    bootstrap: Bootstrap,
    device: torch.device,
    console: Console = Console(),
) -> Recalibration:
    """Score the images, and fit temperature and policy on them: see recalibrate."""
    images = few.images
    scores = score_files(model, images, few.source, device=device, console=console)
    labels, groups = images["label"].to_numpy(), images["group"].to_numpy(str)
    return recalibrate(scores_at(model, scores), labels, groups, settings, (model.temperature, model.policy), bootstrap)


def refuse_the_model(out: Path, folder: Path) -> None:
    """InputError when `out` overlaps the model, or is anything that is not itself a recalibrated model."""
    refuse_overlap(out, folder)
    refuse_other_folder(out, "bundle.json", lambda record: "recalibrated" in record, "recalibrated model")


def write_recalibrated(folder: Path, model: Model, few: FewImages, found: Recalibration, out: Path) -> None:
    """Write `model`, read from `folder`, as `found` says; bundle.json names its parent, and seen the few images too."""
    record = {key: value for key, value in model.record.items() if key not in ("facts_sha256", "policy", "calibration")}
    with replacing_folder(out) as temporary:
        for name in files_there(folder, record):
            shutil.copyfile(folder / name, temporary / name)
        if "members" in record:
            record["members"] = _moved_members(folder, record["members"], temporary, out)
        seen = pd.concat([model.seen, few.images[["image_id", "phash"]]], ignore_index=True)
        write_table(temporary / (name := seen_file(record)), seen)
        record |= found.policy.record | {
            "temperature": found.temperature,
            "parent": {"name": record["recipe"]["name"], "facts_sha256": model.record["facts_sha256"]},
            "recalibrated": dict(found.figures),
            "sha256": record["sha256"] | {name: sha256_file(temporary / name)},
        }
        write_json(temporary / "bundle.json", record | {"facts_sha256": record_hash(record)})


def _moved_members(
    folder: Path, members: Mapping[str, Mapping[str, Any]], temporary: Path, out: Path
) -> dict[str, Mapping[str, Any]]:
    """The members of an ensemble as they are found from `out`; those inside the ensemble are copied."""
    moved = {}
    for name, entry in members.items():
        place = (folder / entry["path"]).resolve()
        if folder.resolve() in place.parents:
            shutil.copytree(place, temporary / entry["path"])
            moved[name] = entry
        else:
            moved[name] = {**entry, "path": Path(os.path.relpath(place, out.resolve())).as_posix()}
    return moved
