"""The Markdown pages that the benches write."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from ffdi.files import human_bytes
from ffdi.parallel import cpu_count


def machine() -> str:
    """Processor, cores, memory, system and the versions that decide speed."""
    info = Path("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in info.read_text().splitlines()] if info.exists() else []
    name = next((m for m in models if any(v in m for v in ("AMD", "Intel", "ARM"))), "") or platform.processor()
    family = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in info.read_text().splitlines()}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return (
        f"{name} family {family.get('cpu family', '?')} model {family.get('model', '?')}, {cpu_count()} cores, "
        f"{human_bytes(memory)} of memory, {platform.system()}, Python {platform.python_version()}, "
        f"torch {torch.__version__.split('+')[0]}, no GPU used"
    )


def write_page(out: Path, lines: list[str], sections: Mapping[str, Iterator[str]]) -> None:
    """`lines`, then each section as a Markdown table, measured when its turn comes and printed when it is there."""
    for title, table in sections.items():
        section = [f"## {title}", "", *table]
        print("\n".join(section), flush=True)
        lines = [*lines, "", *section]
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
