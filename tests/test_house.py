"""The rules of the house that no linter holds: sizes, names, and what docs/design.md and data/README.md say of the code."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter
from pathlib import Path

from ruamel.yaml import YAML

HERE = Path(__file__).parents[1]
SOURCES = [
    HERE / name
    for name in subprocess.run(["git", "ls-files", "*.py"], cwd=HERE, capture_output=True, text=True).stdout.split()
]


def lines_of(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def test_no_file_is_longer_than_300_lines() -> None:
    assert not {str(file.relative_to(HERE)): lines_of(file) for file in SOURCES if lines_of(file) > 300}


def test_no_stage_script_is_longer_than_60_lines() -> None:
    assert not {file.name: lines_of(file) for file in (HERE / "stages").glob("*.py") if lines_of(file) > 60}


def test_no_class_name_is_used_twice() -> None:
    names = Counter(
        node.name
        for file in SOURCES
        if file.is_relative_to(HERE / "ffdi")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert not [name for name, count in names.items() if count > 1]


def test_data_readme_lists_every_output_of_the_pipeline() -> None:
    stages = YAML(typ="safe", pure=True).load((HERE / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    outs = {
        next(iter(out)) if isinstance(out, dict) else out
        for stage in stages.values()
        for out in stage.get("do", stage).get("outs", ())
    }
    written = {
        out.removeprefix("data/").replace("${key}", "NAME").replace("${data.tables}", "csv")
        for out in outs
        if out.startswith("data/")
    }
    table = (HERE / "data" / "README.md").read_text(encoding="utf-8")
    listed = {
        path.rstrip("/") for row in re.findall(r"^\| (`.*?) \|", table, re.M) for path in re.findall(r"`(.*?)`", row)
    }
    assert written <= listed
    assert listed - written == {
        "robustness/BACKBONE",
        "timings",
        "tta/BACKBONE",
    }  # not outputs of DVC, and the table says so


def test_no_file_imports_what_another_keeps_private() -> None:
    taken = [
        f"{file.relative_to(HERE)}: {alias.name}"
        for file in SOURCES
        if not file.is_relative_to(HERE / "tests")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
        if alias.name.startswith("_")
    ]
    assert not taken


DESIGN = (HERE / "docs" / "design.md").read_text(encoding="utf-8")


def test_design_names_files_tests_and_functions_that_exist() -> None:
    for path in re.findall(r"`((?:ffdi|stages|tests|docs)/[\w/]+\.(?:py|md))", DESIGN):
        assert (HERE / path).exists() or "NAME" in path, path
    for file, test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", DESIGN):
        assert f"def {test}(" in (HERE / file).read_text(encoding="utf-8"), test
    for module, name in re.findall(r"`(ffdi(?:\.\w+)+)\.(\w+)`", DESIGN):
        file = HERE.joinpath(*module.split(".")).with_suffix(".py")
        assert f"def {name}(" in file.read_text(encoding="utf-8"), f"{module}.{name}"


def test_how_to_add_names_every_file_of_its_example() -> None:
    """What must change for one more of a kind is where the example's name is."""
    rows = re.findall(r"^\| (an? .+?) \| (.+?) \| `(.+?)` \|$", DESIGN.split("## How to add")[1], re.M)
    assert len(rows) >= 9
    for what, files, example in rows:
        listed = {
            path.replace("NAME", example.strip('"'))
            for path in re.findall(r"`((?:ffdi|stages)/\S+?\.py|dvc.yaml)`", files)
        }
        name = re.compile(rf"(?<!\w){re.escape(example)}(?!\w)")
        places = ("ffdi/*.py", "stages/*.py", "dvc.yaml")
        tracked = subprocess.run(["git", "ls-files", *places], cwd=HERE, capture_output=True, text=True).stdout.split()
        found = {path for path in tracked if name.search((HERE / path).read_text(encoding="utf-8"))}
        assert found and found <= listed, f"{what}: {example} is also in {found - listed}"
