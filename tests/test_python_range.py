"""setup.cfg, the Makefile, README and CI name the same Python versions."""

import configparser
import re
from pathlib import Path

HERE = Path(__file__).parents[1]


def test_every_place_names_the_same_pythons() -> None:
    setup = configparser.ConfigParser()
    setup.read(HERE / "setup.cfg")
    low, above = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", setup["options"]["python_requires"]).groups()  # type: ignore
    high = int(above) - 1
    makefile = (HERE / "Makefile").read_text()
    assert f"(3, {low}) <= v <= (3, {high})" in makefile and f"Python 3.{low} to 3.{high}" in makefile
    assert f"Python 3.{low} to 3.{high}" in (HERE / "README.md").read_text()
    workflow = (HERE / ".github" / "workflows" / "ci.yml").read_text()
    assert f'python: ["3.{low}", "3.{high}"]' in workflow
    assert f'target-version = "py3{low}"' in (HERE / "ruff.toml").read_text()
    assert f"--python-version 3.{low}" in makefile  # make lock
