"""Python, and the packages that ffdi needs or can use, as setup.cfg or the installed metadata name them."""

from __future__ import annotations

import configparser
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ffdi.doctor.diagnosis import Diagnosis, one_of

SECTION = "packages"
NAMED = ("torch", "torchvision", "timm", "onnxruntime")  # a line each; the others of the library share one
FOR = {
    "pipeline": "dvc repro",
    "formats": "HEIC and JPEG XL images",
    "faces": "stage faces, and ffdi predict of photos and videos",
    "app": "ffdi app",
    "ray": "extract.engine: ray, train.engine: ray",
    "s3": "data.root and extract.store at s3://",
    "gcs": "those at gs://",
    "azure": "those at az://",
    "http": "data.root at https://",
    "dev": "make test, make lint",
}
CHECKOUT = Path(__file__).parents[2]


def package_diagnoses(checkout: Path = CHECKOUT) -> Iterator[Diagnosis]:
    """Python; each named package of the library, and its others together; each extra."""
    needed, wanted = _declared(checkout)
    installing = "pip install -e '{}'" if (checkout / "setup.cfg").exists() else "pip install 'ffdi{}'"
    wrong_python = not wanted.contains(platform.python_version(), prereleases=True)
    yield one_of(
        "missing" if wrong_python else "ok",
        SECTION,
        "python",
        platform.python_version(),
        f"ffdi needs {wanted}: make PYTHON=python3.12",
    )
    library = needed.pop("")
    plain = installing.format("." if "-e" in installing else "")
    for requirement in library:
        if requirement.name in NAMED:
            yield _package(requirement, plain)
    others = [requirement for requirement in library if requirement.name not in NAMED]
    broken = _lacking(others)
    found = "; ".join(broken) or f"{len(others)} more, each as setup.cfg asks"
    yield one_of("missing" if broken else "ok", SECTION, "others", found, plain)
    for extra, requirements in needed.items():
        name = f"extra {extra}"
        lacking = _lacking(requirements)
        present = ", ".join(f"{r.name} {version(r.name)}" for r in requirements[:2]) if not lacking else ""
        found = f"for {FOR[extra]}: {'; '.join(lacking) or present}" if extra in FOR else "; ".join(lacking) or present
        remedy = installing.format(f".[{extra}]" if "-e" in installing else f"[{extra}]")
        yield one_of("note" if lacking else "ok", SECTION, name, found, remedy)


def _declared(checkout: Path) -> tuple[dict[str, list[Requirement]], SpecifierSet]:
    """Requirements by extra, "" for those of the library itself, and the versions of Python.

    A checkout's setup.cfg counts more than the metadata, which is as old as the last installation.
    """
    written: dict[str, list[str]] = {"": []}
    if (file := checkout / "setup.cfg").exists():
        config = configparser.ConfigParser()
        config.read(file, encoding="utf-8")
        written[""] = config["options"]["install_requires"].split("\n")
        written |= {extra: lines.split("\n") for extra, lines in config["options.extras_require"].items()}
        python = config["options"]["python_requires"]
    else:
        for line in requires("ffdi") or ():
            _, _, extra = line.partition("extra == ")
            written.setdefault(extra.strip("\"' )"), []).append(line.partition(";")[0])
        python = metadata("ffdi")["Requires-Python"]
    parsed = {extra: [Requirement(line) for line in lines if line.strip()] for extra, lines in written.items()}
    return parsed, SpecifierSet(python)


def _package(requirement: Requirement, remedy: str) -> Diagnosis:
    lacking = _lacking([requirement])
    found = lacking[0] if lacking else version(requirement.name)
    return one_of("missing" if lacking else "ok", SECTION, requirement.name, found, remedy)


def _lacking(requirements: list[Requirement]) -> list[str]:
    """A phrase for each that is not installed, or in a version that does not do."""
    lacking = []
    for requirement in requirements:
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            lacking.append(f"{requirement.name} is not installed")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            lacking.append(f"{requirement.name} is {found}, needed is {requirement.specifier}")
    return lacking
