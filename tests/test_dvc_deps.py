"""A stage reruns when code that can change its outputs changes, and only then: dvc.yaml against the imports."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

HERE = Path(__file__).parents[1]

# What a stage imports is a dependency of it. What cannot change an output is named here, with the reason, and nowhere else;
# what these modules import for themselves counts only where the stage's other code imports it too.
CANNOT_CHANGE_AN_OUTPUT = {
    "ffdi/__init__.py": "the public interface, whose names load their modules when they are asked for; no stage asks",
    "ffdi/bounds.py": "which values a params file may hold; DVC tracks the values themselves",
    "ffdi/byte_cache.py": "keeps bytes that are known by their sha256; they are checked when they are read",
    "ffdi/storage.py": "how bytes come from a URL, whole or not at all; ingest tells images by their sha256",
    "ffdi/urls.py": "which URLs may be named, and how messages show them",
    "ffdi/console.py": "lines and progress for the reader",
    "ffdi/errors.py": "what is said of a run that writes nothing",
    "ffdi/files.py": "how bytes reach the disk, whole and by one writer; tests/test_files.py holds them to the byte",
    "ffdi/parallel.py": "how many threads work; results come in order, and tests hold them equal for any number",
    "ffdi/memory.py": "what the container allows, which DVC cannot see; with less memory features are streamed, in another order",
    "ffdi/timing.py": "seconds, which are never compared",
    "ffdi/params": "DVC tracks the values themselves, key by key; a new key would otherwise rerun everything. It cannot see a "
    "default that changes: tests/params/test_declarations.py holds those",
    "ffdi/evaluation/settings.py": "declares settings, which DVC tracks key by key",
    "ffdi/intake/settings.py": "declares settings, which DVC tracks key by key",
    "ffdi/stagekit/command.py": "how a stage starts and ends",
    "ffdi/stagekit/console.py": "lines and progress for the reader",
    "ffdi/stagekit/options.py": "the options of the command lines; dvc.yaml names every path that it passes",
    "ffdi/stagekit/stopwatch.py": "seconds, which are never compared",
}
# Through ffdi/params/paths.py alone, for `data.root` may be an archive. Later stages know an image by its sha256.
THROUGH_PARAMS = {
    file: {"faces", "ingest", "cross"} for file in ("ffdi/intake/archives.py", "ffdi/intake/remote_archives.py")
}

RAW = "${item.root}"  # of stage faces: the user's own photos and videos

DATA = {file.suffix for file in (HERE / "ffdi").rglob("*.*") if file.suffix not in (".py", ".pyc", ".typed")}


def module_file(name: str) -> Path | None:
    path = HERE.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


@cache
def read_by(file: Path) -> frozenset[Path]:
    """The files of ffdi that one of them imports, at its head or in a function, or reads: data files stand beside it."""
    if file.suffix == ".html":  # a template and those that it includes
        included = re.findall(r"""{%-? (?:include|extends|import|from) "([^"]+)" """, file.read_text(encoding="utf-8"))
        return frozenset(file.parent / name for name in included)
    if file.suffix != ".py":
        return frozenset()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for_types_alone = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for branch in node.body
        for inner in ast.walk(branch)
    }
    found: set[Path | None] = set()
    for node in ast.walk(tree):
        if node in for_types_alone:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports of ffdi are written out in full"
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            assert not (isinstance(node, ast.Attribute) and node.attr == "import_module"), f"{file}: imports by name"
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and Path(node.value).suffix in DATA:
                found.add(file.parent / node.value)
            continue
        found.update(module_file(name) for name in names if name.split(".")[0] == "ffdi")
    return frozenset(file for file in found if file and file.exists())


def closure(script: Path) -> set[str]:
    """All that a stage script imports or reads, directly or through others; not through what cannot change an output."""
    found: set[Path] = set()
    todo = [script]
    while todo:
        new = read_by(todo.pop()) - found
        found |= new
        todo += [file for file in new if not is_exempt(file.relative_to(HERE).as_posix())]
    packages = {file for file in found if file.name == "__init__.py" and file.parent.name != "ffdi"}  # see their test
    return {file.relative_to(HERE).as_posix() for file in found - packages}


def stages() -> dict[str, dict[str, Any]]:
    written = YAML(typ="safe", pure=True).load((HERE / "dvc.yaml").read_text())["stages"]
    return {name: stage.get("do", stage) for name, stage in written.items()}


def script_of(stage: dict[str, Any]) -> str:
    return next(word for word in stage["cmd"].split() if word.startswith("stages/"))


def covers(dep: str, file: str) -> bool:
    return file == dep or file.startswith(f"{dep}/")


def is_exempt(file: str) -> bool:
    return any(covers(exempt, file) for exempt in CANNOT_CHANGE_AN_OUTPUT)


STAGES = stages()


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_all_code_that_can_change_its_outputs(name: str) -> None:
    script, deps = script_of(STAGES[name]), STAGES[name]["deps"]
    needed = {file for file in (script, *closure(HERE / script)) if not is_exempt(file)}
    needed |= {file for file, users in THROUGH_PARAMS.items() if name in users}
    assert not {file for file in needed if not any(covers(dep, file) for dep in deps)}


@pytest.mark.parametrize("name", STAGES)
def test_no_dependency_on_code_is_dead(name: str) -> None:
    """A file is imported or read; so is at least half of a folder's, or its files would be named one by one."""
    script, deps = script_of(STAGES[name]), STAGES[name]["deps"]
    needed = {script, *closure(HERE / script), *(file for file, users in THROUGH_PARAMS.items() if name in users)}
    for dep in deps:
        if dep.split("/")[0] in ("ffdi", "stages"):
            place = HERE / dep
            files = [f.relative_to(HERE).as_posix() for f in place.rglob("*.py") if f.name != "__init__.py"] or [dep]
            assert place.exists(), dep
            assert sum(file in needed for file in files) >= len(files) / 2, dep


def test_what_is_no_code_is_an_output_of_another_stage() -> None:
    written = {
        next(iter(out)) if isinstance(out, dict) else out
        for stage in STAGES.values()
        for kind in ("outs", "metrics", "plots")
        for out in stage.get(kind, ())
    }
    for name, stage in STAGES.items():
        for dep in stage["deps"]:
            if dep.split("/")[0] not in ("ffdi", "stages") and dep != RAW:
                key = re.sub(
                    r"\$\{[^}]*\}", "${key}", dep
                )  # data/weights/${split.embedding}.safetensors is of a foreach
                plain = dep if "${data.tables}" in dep else key
                assert any(covers(out, plain) or covers(plain, out) for out in written), f"{name}: {dep}"


@pytest.mark.parametrize("name", STAGES)
def test_what_cannot_change_an_output_reruns_nothing(name: str) -> None:
    """Above all a comment in a file that says how a program reports."""
    assert not [dep for dep in STAGES[name]["deps"] if is_exempt(dep)]
    for exempt in CANNOT_CHANGE_AN_OUTPUT:
        assert not [dep for dep in STAGES[name]["deps"] if covers(dep, exempt)]


def test_what_is_exempt_is_there_is_imported_and_has_a_reason() -> None:
    imported = {file for stage in STAGES.values() for file in closure(HERE / script_of(stage))} | {"ffdi/__init__.py"}
    for exempt in CANNOT_CHANGE_AN_OUTPUT:
        assert any(covers(exempt, file) for file in imported), exempt
    assert all(len(reason) > 10 for reason in CANNOT_CHANGE_AN_OUTPUT.values())
    assert set().union(*THROUGH_PARAMS.values()) <= set(STAGES)
    reached = {file.relative_to(HERE).as_posix() for file in read_by(HERE / "ffdi" / "params" / "paths.py")}
    assert set(THROUGH_PARAMS) <= reached


def test_packages_hold_no_code() -> None:
    """So that importing one adds nothing, and no stage needs it for a dependency."""
    for file in set((HERE / "ffdi").rglob("__init__.py")) - {HERE / "ffdi/__init__.py"}:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        assert [type(node) for node in tree.body] == [ast.Expr] and ast.get_docstring(tree), file


def test_every_stage_script_is_a_stage() -> None:
    written = {script_of(stage) for stage in STAGES.values()}
    assert written == {file.relative_to(HERE).as_posix() for file in (HERE / "stages").glob("*.py")}


def test_the_imports_are_seen(tmp_path: Path) -> None:
    """In a function, of a module through its package, and not those that a type checker alone follows."""
    file = tmp_path / "module.py"
    file.write_text(
        "from __future__ import annotations\n"
        "from typing import TYPE_CHECKING\n"
        "import ffdi.metrics\n"
        "from ffdi import bootstrap\n"
        "if TYPE_CHECKING:\n    from ffdi.tails import train\n"
        "def f():\n    from ffdi.features.views import resolve_policy\n"
    )
    found = {path.relative_to(HERE).as_posix() for path in read_by(file)}
    assert found == {"ffdi/__init__.py", "ffdi/metrics.py", "ffdi/bootstrap.py", "ffdi/features/views.py"}
    assert "ffdi/evaluation/report.html" in closure(HERE / "stages" / "report.py")
    assert "ffdi/features/views.py" in closure(HERE / "stages" / "ladder.py")
