"""The demo of params.yaml as a test reads it: drawing it takes 43 seconds, so one that lies in data/demo is taken."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ruamel.yaml import YAML

from ffdi.demo.dataset import write_demo

HERE = Path(__file__).parents[1]


def drawn_demo(folder: Path, checkout: Path = HERE) -> Path:
    """The demo of 90 people: data/demo if the code that is here drew it, by dvc.lock; else drawn anew in `folder`."""
    lying = checkout / "data" / "demo"
    stage = YAML(typ="safe", pure=True).load((checkout / "dvc.lock").read_text())["stages"]["demo"]
    hashes = {file["path"]: file["md5"] for file in (*stage["deps"], *stage["outs"])}
    drawn = stage["params"]["params.yaml"]["demo"] == {"identities": 90, "seed": 0} and all(
        dvc_md5(checkout / path, pattern) == hashes[path]
        for path, pattern in (("ffdi/demo", "*.py"), ("data/demo", "**/*"))
    )
    if not drawn:
        write_demo(lying := folder / "demo", identities=90, seed=0)
    return lying


def dvc_md5(folder: Path, pattern: str) -> str:
    """The hash of those files of a folder, as DVC writes it into dvc.lock."""
    files = {file.relative_to(folder).as_posix(): file for file in folder.glob(pattern) if file.is_file()}
    listed = [{"md5": hashlib.md5(files[name].read_bytes()).hexdigest(), "relpath": name} for name in sorted(files)]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + ".dir"
