"""A hundred million images on 8 to 512 GPUs: hours, GPU-hours, bytes, and what limits them. Simulated; see docs/scale.md.

python bench/scale.py measure       seconds of each part on a core of this machine -> bench/scale.json (1 minute)
python bench/scale.py check         a run of 2 Ray workers here beside what the simulation says of it (4 minutes)
python bench/scale.py simulate      the tables and the figure of docs/scale.md, from bench/scale.json (2 minutes)
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from page import machine
from scale_check import check
from scale_figure import draw
from scale_inputs import Lab, measured
from scale_study import GETS, GPUS, Prices, Study
from scale_tables import inputs_table, one_machine_table, sections

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "scale.md"
TIMED = {"mobilenet_v2": 512, "wide_resnet50_2": 64}  # rows that go through the prefix


def curves(study: Study) -> dict[str, Callable[[int], float]]:
    """Hours by the number of GPUs, of a few of the settings above."""

    def hours(backbone: str, views: int, **change: Any) -> Callable[[int], float]:
        return lambda gpus: study.run(backbone, views, gpus, **change).seconds / 3600

    small, wide = "mobilenet_v2", "wide_resnet50_2"
    return {
        f"{wide}, 3 rows an image": hours(wide, 3),
        f"{wide}, 1 row an image": hours(wide, 1),
        f"{small}, 1 row, one prefix of the bucket": hours(small, 1, get_rate=GETS),
        f"{small}, 1 row, images of 1024 pixels": hours(small, 1, large=True),
        f"{small}, 1 row an image": hours(small, 1),
    }


def put(page: Path, name: str, lines: Iterator[str]) -> None:
    """Replace what stands between the marks `name` of a page."""
    text = page.read_text(encoding="utf-8")
    block = "\n".join(lines)
    found = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.S)
    if not found.search(text):
        raise SystemExit(f"{page}: has no marks <!-- {name} -->")
    page.write_text(found.sub(lambda match: match[1] + block + "\n" + match[2], text), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["measure", "check", "simulate"])
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--images", type=Path, default=Path("data/images.csv"))
    parser.add_argument("--root", type=Path, default=Path("data/demo"))
    parser.add_argument("--weights", type=Path, default=Path("data/weights"))
    parser.add_argument("--inputs", type=Path, default=HERE / "scale.json")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--count", type=int, default=120, help="images that are decoded and rendered")
    parser.add_argument("--gpu-hour", type=float, help="the price of a GPU for an hour: adds a column")
    chosen = parser.parse_args()
    lab = Lab(chosen.params, chosen.images, chosen.root, chosen.weights)
    if chosen.what == "measure":
        known = json.loads(chosen.inputs.read_text()) if chosen.inputs.exists() else {}
        found = (
            {"task": known.get("task", 0.001)}
            | measured(lab, TIMED, chosen.count)
            | {"machine": machine(), "load": os.getloadavg()[0]}
        )
        chosen.inputs.write_text(json.dumps(found, indent=2) + "\n")
        print(chosen.inputs.read_text())
    elif chosen.what == "check":
        put(chosen.page, "checked", check(lab, chosen.inputs, chosen.runs))
    else:
        study = Study(json.loads(chosen.inputs.read_text()), Prices(chosen.gpu_hour))
        put(chosen.page, "one machine", one_machine_table(study))
        put(chosen.page, "inputs", inputs_table(study))
        put(chosen.page, "simulated", sections(study))
        draw(curves(study), GPUS, chosen.page.with_suffix(".svg"))


if __name__ == "__main__":
    main()
