"""The pages of dvc plots without a network: make offline-plots."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ffdi.evaluation.depth import COLUMNS

pytest.importorskip("js_lib_vega_embed", reason="django-js-lib-vega-embed, the JavaScript, is not installed")
pytest.importorskip("dvc", reason="dvc is not installed")

HERE = Path(__file__).parents[1]
ASKED = re.compile(r"""<(?:script|link|img)\b[^>]*\b(?:src|href)\s*=\s*["']?(?:https?:)?//""")


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repo")
    (folder / ".dvc").mkdir()
    shutil.copytree(HERE / ".dvc" / "plots", folder / ".dvc" / "plots")
    for name in ("config", ".gitignore"):
        shutil.copy(HERE / ".dvc" / name, folder / ".dvc" / name)
    (folder / "roc.csv").write_text("fpr,tpr\n0,0\n0.25,0.75\n1,1\n")
    run(folder, "git", "init", "-q")
    return folder


def run(folder: Path, *command: str) -> str:
    environment = os.environ | {"DVC_GLOBAL_CONFIG_DIR": str(folder / "none"), "DVC_NO_ANALYTICS": "true"}
    done = subprocess.run(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout.strip()


def plots(folder: Path) -> str:
    run(folder, sys.executable, "-m", "dvc", "plots", "show", "roc.csv", "-x", "fpr", "-y", "tpr", "-o", "page")
    return (folder / "page" / "index.html").read_text(encoding="utf-8")


def test_the_page_of_dvc_plots_carries_its_javascript(repo: Path) -> None:
    assert ASKED.search(plots(repo)), "DVC's own page fetches nothing any more: offline.py can go"

    run(repo, sys.executable, ".dvc/plots/offline.py")
    template = (repo / ".dvc" / "tmp" / "plots_page.html").read_text(encoding="utf-8")
    assert not ASKED.search(template)
    assert "{plot_divs}" in template and "{scripts}" not in template
    assert template.count("</script>") == 1  # none in the JavaScript, which would end there

    page = plots(repo)
    assert not ASKED.search(page) and 'src="http' not in page
    assert page.count("vegaEmbed('#") == 1
    assert '"tpr": "0.75"' in page or '"tpr": 0.75' in page
    head = page.split("</script>")[0]
    assert head.index('<meta charset="utf-8">') < head.index("<script>")
    assert all(f".{name}=" in head for name in ("vega", "vegaLite", "vegaEmbed"))


@pytest.mark.parametrize(
    "table",
    ["attribute,value,auc,auc_low,auc_high\nsex,f,0.8,0.7,0.9\n", "level,auc,auc_low,auc_high\nblur-2,0.8,0.7,0.9\n"],
)
def test_attributes_and_robustness_are_drawn_with_their_intervals(repo: Path, table: str) -> None:
    """As dvc.yaml declares them: the template's fields are columns of the table, and DVC hands all of them on."""
    (repo / "table.csv").write_text(table)
    of = "value" if "value" in table else "level"
    command = ("plots", "show", "table.csv", "-x", "auc", "-y", of, "-t", "intervals", "-o", "page")
    run(repo, sys.executable, "-m", "dvc", *command)
    page = (repo / "page" / "index.html").read_text(encoding="utf-8")
    found = re.search(r"var spec = (\{.*\});", page)
    assert found
    drawn = json.loads(found[1])
    (row,) = drawn["data"]["values"]
    point, rule = (layer["encoding"] for layer in drawn["layer"])
    fields = (point["x"]["field"], rule["x"]["field"], rule["x2"]["field"])
    assert [float(row[field]) for field in fields] == [0.8, 0.7, 0.9] and of in row
    assert drawn["encoding"]["color"]["field"] == drawn["encoding"]["yOffset"]["field"] == "rev"


def test_auc_by_depth_is_drawn_with_its_intervals(repo: Path) -> None:
    """As docs/plots.md names it: the template's fields are columns of the table."""
    (repo / "depth.csv").write_text(f"{','.join(COLUMNS)}\nblocks.1,cls,64,0.4,0.8,0.7,0.9\n")
    command = ("plots", "show", "depth.csv", "-t", "depth", "-x", "flops_before", "-y", "auc", "-o", "page")
    run(repo, sys.executable, "-m", "dvc", *command)
    found = re.search(r"var spec = (\{.*\});", (repo / "page" / "index.html").read_text(encoding="utf-8"))
    assert found
    drawn = json.loads(found[1])
    (row,) = drawn["data"]["values"]
    line, rule = (layer["encoding"] for layer in drawn["layer"])
    fields = (drawn["encoding"]["x"]["field"], line["y"]["field"], rule["y"]["field"], rule["y2"]["field"])
    assert [float(row[field]) for field in fields] == [0.4, 0.8, 0.7, 0.9]
    assert row[drawn["encoding"]["color"]["field"]] == "cls"


def test_only_this_checkout_is_told_and_git_sees_nothing(repo: Path) -> None:
    run(repo, sys.executable, ".dvc/plots/offline.py")
    told = run(repo, sys.executable, "-m", "dvc", "config", "--local", "plots.html_template")
    assert (repo / ".dvc" / told).is_file()  # DVC starts from .dvc
    seen = run(repo, "git", "status", "--porcelain", "--untracked-files=all")
    assert "offline.py" in seen and "config.local" not in seen and "plots_page" not in seen
