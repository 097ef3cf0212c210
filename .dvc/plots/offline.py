"""Puts the JavaScript of dvc plots into its pages, which otherwise load it from the network: make offline-plots."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

from dvc_render.html import PAGE_HTML

HERE = Path(__file__).resolve().parents[1]  # .dvc: DVC reads PAGE relative to it
PAGE = "tmp/plots_page.html"


def write(page: Path) -> None:
    vega = files("js_lib_vega_embed") / "static" / "js_lib_vega_embed" / "vega-embed-full.js"
    # A downloaded script names its own encoding; an embedded one needs the page to do so.
    head = f'<meta charset="utf-8">\n    <script>\n{vega.read_text(encoding="utf-8")}</script>'
    page.parent.mkdir(exist_ok=True)
    page.write_text(PAGE_HTML.replace("{scripts}", head), encoding="utf-8")


if __name__ == "__main__":
    write(HERE / PAGE)
    command = [sys.executable, "-m", "dvc", "config", "--local", "plots.html_template", PAGE]
    subprocess.run(command, cwd=HERE.parent, check=True)
