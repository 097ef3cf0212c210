"""A folder that a hub takes as it is: the model's files, a card, config.json. Nothing in it names a place of this machine."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import Any

from ffdi.console import Console
from ffdi.deploy.card.facts import UNSAID, CardFacts, Publication, read_facts
from ffdi.deploy.card.head import TASK
from ffdi.deploy.card.writing import card
from ffdi.deploy.licences import source_name
from ffdi.features.backbone import Backbone
from ffdi.files import refuse_other_folder, refuse_overlap, replacing_folder, write_json, write_text
from ffdi.tails.record import is_ensemble, read_record, record_hash, refuse_changed, refuse_changed_files, unread_files

_LIBRARY = "ffdi"
CONFIG = "config.json"


def write_hub(
    model: Path, out: Path, *, metrics: Path, published: Publication = UNSAID, console: Console = Console()
) -> None:
    """Write the model in the folder `model` to the folder `out`, which `ffdi predict --model` reads and a hub takes.

    An ensemble takes its members along. A refit recipe leaves out the tails of its folds, which do not score.
    The other arguments, and errors, as read_facts; also BundleError when a file was changed, InputError when `out` has
    anything else than an earlier such folder, which would be deleted.
    """
    from ffdi.tails.ensemble import load_model

    refuse_overlap(out, model)
    refuse_other_folder(
        out, CONFIG, lambda config: config.get("library_name") == _LIBRARY, "folder that ffdi export wrote"
    )
    facts = read_facts(model, metrics, published, console)
    with replacing_folder(out) as temporary:
        _copy(model, temporary)
        write_json(temporary / CONFIG, _config(facts))
        write_text(temporary / "README.md", card(facts))
        load_model(temporary)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e6
    console.say(f"{out}: {size:.1f} MB: `hf upload USER/{facts.record['recipe']['name']} {out}` publishes it")


def _copy(model: Path, out: Path) -> str:
    """Copy the files of a model, members included, and its bundle.json without places; returns that one's facts_sha256."""
    record = read_record(model)
    refuse_changed(model, record)
    refuse_changed_files(model, record)
    out.mkdir(exist_ok=True)
    for name in record["sha256"]:
        if name not in unread_files(record):
            shutil.copyfile(model / name, out / name)
    written = _without_places(record)
    if is_ensemble(record):
        (out / "members").mkdir()
        written["members"] = {
            name: entry
            | {"path": f"members/{name}", "facts_sha256": _copy(model / entry["path"], out / "members" / name)}
            for name, entry in record["members"].items()
        }
    if written != record:
        del written["facts_sha256"]
        written["exported_from"] = record.get("exported_from", record["facts_sha256"])
        written["facts_sha256"] = record_hash(written)
    write_json(out / "bundle.json", written)
    return str(written["facts_sha256"])


def _without_places(value: Any) -> Any:
    """The same record; of each string that is the path of a file of this machine, or `file:` and a path, the name alone."""
    if isinstance(value, Mapping):
        return {key: _without_places(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_places(item) for item in value]
    if isinstance(value, str):
        return " + ".join(_name_alone(part) for part in value.split(" + "))  # an ensemble's sources are joined
    return value


def _name_alone(text: str) -> str:
    return PurePath(text).name if text.startswith("/") else source_name(text)


def _config(facts: CardFacts) -> dict[str, Any]:
    """config.json, by which hubs count downloads and other programs know what to feed it."""
    policy = facts.record.get("policy", {})
    inputs = {name: Backbone.from_dict(part["backbone"]).pixels for name, part in facts.parts.items()}
    return {
        "library_name": _LIBRARY,
        "ffdi_version": version("ffdi"),
        "task": TASK,
        "name": facts.name,
        "architectures": [str(part["backbone"]["network"]) for part in facts.parts.values()],
        "num_labels": 2,
        "id2label": {"0": "real", "1": "fake"},
        "label2id": {"real": 0, "fake": 1},
        "inputs": {
            name: {"size": seen.size, "mean": list(seen.mean), "std": list(seen.std), "words": seen.words}
            for name, seen in inputs.items()
        },
        **({"crops": facts.crops.words} if facts.crops else {}),
        "threshold": facts.record["threshold"],
        "abstain": [policy["abstain_low"], policy["abstain_high"]] if "abstain_low" in policy else None,
        "license": facts.licence,
        "weights": dict(facts.licences),
    }
