"""params.yaml files for tests: the committed one, changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

COMMITTED = Path(__file__).parents[2] / "params.yaml"
PRESETS = sorted((COMMITTED.parent / "presets").glob("*.yaml"))


def changed(folder: Path, **changes: Any) -> Path:
    """The committed params with some keys changed, named as `-S` names them: {"recipes.x.lr": "1e-4"}."""
    tree = YAML(typ="safe", pure=True).load(COMMITTED)
    for key, value in changes.items():
        *way, last = key.split(".")
        section = tree
        for part in way:
            section = section[part]
        section[last] = value
    file = folder / "params.yaml"
    YAML(typ="safe", pure=True).dump(tree, file)
    return file
