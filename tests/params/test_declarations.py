"""The declarations of settings: defaults, meanings, and that each setting is declared once."""

import ast
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

import pytest
from conftest import HERE

from ffdi.bounds import entry_of
from ffdi.params.document import meanings
from ffdi.params.schema import Params


def settings_below(section: type) -> Iterator[type]:
    """A class of settings and those of the sections below it."""
    yield section
    for hint in get_type_hints(section).values():
        for part in (hint, *get_args(hint), entry_of(hint)):
            if isinstance(part, type) and is_dataclass(part):
                yield from settings_below(part)


@cache
def dataclasses_in_source() -> list[tuple[str, set[str]]]:
    """(file and name, names of fields) of every dataclass in ffdi."""
    found = []
    for file in sorted((HERE / "ffdi").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(d) for d in node.decorator_list):
                declared = (inner.target for inner in node.body if isinstance(inner, ast.AnnAssign))
                names = {target.id for target in declared if isinstance(target, ast.Name)}
                found.append((f"{file.name}: {node.name}", names))
    return found


SETTINGS = {section.__name__: section for section in settings_below(Params)}

# Whoever leaves a key out has its default in every figure, and DVC cannot see that it changed: it reruns nothing. So a
# default stands; to change what the demo or a preset does, write the key there.
DATA: dict[str, Any] = {
    "layout": "csv",
    "table": "labels.csv",
    "list_by": None,
    "classes": None,
    "group": None,
    "max_ungrouped": 0.05,
    "attributes": None,
    "limit": None,
    "exclude": None,
    "max_pixels": 50000000,
    "max_rejected": 0.01,
    "synthesise": 0,
    "tables": "csv",
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "DemoSettings": {"identities": 90, "seed": 0},
    "DataSettings": DATA,
    "SetSettings": DATA | {"name": ""},
    "FacesSettings": DATA
    | {
        "max_rejected": 0.05,
        "detector": "centerface",
        "min_score": 0.5,
        "margin": 1.3,
        "align": "none",
        "size": 256,
        "faces": "largest",
        "frames": 32,
        "format": "png",
    },
    "SplitSettings": {
        "method": "stratified",
        "by": None,
        "min_fakes": 20,
        "test_size": 0.2,
        "folds": 5,
        "stratify_by": None,
        "use_given": True,
        "two_sources": "join",
        "phash_bits": 6,
        "embedding": "efficientnet_lite0",
        "use_embedding": False,
        "min_cosine": 0.95,
        "find_copies": False,
        "seed": 0,
    },
    "AuditSettings": {"fail": True, "phash_bits": 6, "find_copies": True, "use_embedding": False, "min_cosine": 0.95},
    "Views": {"count": 0, "policy": "none", "seed": 0},
    "Backbone": {
        "image_size": None,
        "mean": None,
        "std": None,
        "dtype": "float16",
        "runtime": "auto",
        "precision": "float32",
        "compile": False,
        "decoder": "pillow",
        "memory_format": "contiguous",
        "keep": "all",
        "resize": None,
        "network_args": {},
        "weights_sha256": None,
        "preprocessing": "params",
    },
    "Resize": {"mode": "squash", "kernel": "bilinear", "crop": 1.0},
    "Head": {
        "kind": "mlp",
        "hidden": (512, 256),
        "dropout": 0.0,
        "depth": 2,
        "heads": 4,
        "width": 128,
        "drop_path": 0.0,
        "norm": "none",
        "sweep": 20,
        "c_range": (1e-6, 1e2),
        "neighbours": 20,
        "distance": "cosine",
        "temperature": 0.07,
    },
    "Optimizer": {"name": "adam", "weight_decay": 0.0, "momentum": None, "decayed": "all"},
    "Schedule": {"name": "none", "size": 1, "gamma": 0.1, "warmup": 0},
    "Params": {"seed": 0, "faces": {}, "ensembles": {}, "protocol": {}},
    "Mix": {"mixup": 0.0, "cutmix": 0.0},
    "ExtraLosses": {"alignment": 0.0, "uniformity": 0.0},
    "Recipe": {
        "folds": "all",
        "views": "sample",
        "epochs": 10,
        "patience": None,
        "batch_size": 64,
        "lr": 0.0001,
        "l1": 0.0,
        "label_smoothing": 0.0,
        "class_weights": None,
        "clip_grad": None,
        "ema": None,
        "augment": (),
        "precision": "float32",
        "seed": 0,
        "trainable": "all",
        "lr_decay": 1.0,
        "pairing": "none",
        "abstain": None,
        "tta": (),
        "calibration": "folds",
        "refit": False,
    },
    "ThresholdRule": {"rule": "youden", "at": 0.01},
    "Abstain": {"error": 0.05},
    "EnsembleSettings": {"weights": "equal", "abstain": None},
    "TrainSettings": {"memory_gb": 8.0, "device": "auto", "deterministic": True, "processes": 1, "engine": "local"},
    "ExtractSettings": {"engine": "local", "workers": "auto", "shard_rows": 4096, "compression": "none", "store": None},
    "EvaluateSettings": {"bootstrap": 2000, "attributes": None, "unit": None, "unit_score": "mean", "cross": {}},
    "LadderSettings": {
        "recipe": "efficientnet_lite0",
        "backbone": "efficientnet_lite0",
        "folds": 2,
        "epochs": None,
        "seeds": 1,
    },
}


def test_defaults_stand() -> None:
    for name, expected in DEFAULTS.items():
        defaults = {
            field.name: field.default if field.default_factory is MISSING else field.default_factory()
            for field in fields(SETTINGS[name])
        }
        plain = {key: value for key, value in defaults.items() if value is not MISSING and not is_dataclass(value)}
        assert plain == expected, name


@pytest.mark.parametrize("section", SETTINGS.values(), ids=SETTINGS.keys())
def test_every_setting_has_a_meaning_of_its_own(section: type) -> None:
    texts = meanings(section)
    for field in fields(section):
        text = texts.get(field.name, "")
        assert text.endswith((".", ").")) and len(text) > 10, f"{section.__name__}.{field.name}"
    assert len({*texts.values()}) == len(texts)


@pytest.mark.parametrize("section", SETTINGS.values(), ids=SETTINGS.keys())
def test_no_other_dataclass_repeats_a_declaration(section: type) -> None:
    """Such as one that the library takes in its place: a new key would have to be declared in both."""
    declared = {field.name for field in fields(section)}
    for name, others in dataclasses_in_source():
        shared = declared & others
        if name.partition(": ")[2] not in SETTINGS:
            assert len(shared) < 3 or len(shared) < len(declared) / 2, f"{name} repeats {sorted(shared)}"
