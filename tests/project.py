"""A separate checkout that a test drives as a user does: by git, dvc and ffdi."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]


class Project:
    """A checkout of its own in a temporary folder, driven by its commands; `environment` is that of conftest's warm_environment."""

    def __init__(self, folder: Path, params: dict[str, Any], environment: Mapping[str, str]) -> None:
        from ruamel.yaml import YAML

        self.folder = folder
        for name in ("ffdi", "stages", ".dvc/plots"):
            shutil.copytree(HERE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("dvc.yaml", ".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore"):
            shutil.copy(HERE / name, folder / name)
        (folder / "data" / "faces").mkdir(parents=True)
        shutil.copy(HERE / "data/faces/README.md", folder / "data/faces/README.md")
        with open(folder / "params.yaml", "w") as file:
            YAML(typ="safe", pure=True).dump(params, file)
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self.environment = {
            **inherited,
            **environment,
            "PYTHONPATH": str(folder),
            "FFDI_CACHE": str(folder.parent / "cache"),
            **{
                f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
            },
        }

    def run(self, *command: str, check: bool = True) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert not check or done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", message)

    def metrics(self, name: str, folder: str = "metrics/details") -> dict[str, object]:
        loaded: dict[str, object] = json.loads((self.folder / folder / f"{name}.json").read_text())
        return loaded
