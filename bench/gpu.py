"""The first hour on a GPU, in one command of nine minutes: speed beside its bounds, memory, and every invariant's verdict.

Needs the library and what it imports here: torch (2.11 will do), torchvision, timm, numpy, pandas, h5py, hdf5plugin, pillow,
safetensors, filelock, pydantic, ruamel.yaml, tqdm, scikit-learn and scipy. No dvc, no network. Each section runs in a
process of its own and has a limit; one that fails or runs out of time says so, and the rest goes on. Figures are printed
as they are known, and written as Markdown to bench/gpu.md after each section.

`--device cpu --quick` goes through every section at a tiny size, to see that it runs: those figures mean nothing and are
printed alone.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from gpu_invariants import alike_in_a_batch, compiled, decoded, halved, sanitised, swept_twice, trained_twice
from gpu_page import Bench, Page, Row, Rows
from gpu_speed import fused_attention, memory_formats, speed_of_extraction, speed_of_training

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))  # a GPU machine may have no ffdi installed: it is imported where it is used

SECTIONS: dict[str, tuple[Callable[[Bench], Rows], float]] = {  # title: what it measures, its limit in seconds
    "A feature depends on its own image": (alike_in_a_batch, 60),
    "Extraction": (speed_of_extraction, 110),
    "Training": (speed_of_training, 70),
    "Decoding": (decoded, 60),
    "Memory formats": (memory_formats, 75),
    "Attention": (fused_attention, 60),
    "Trained again": (trained_twice, 75),
    "Evaluated again": (swept_twice, 60),
    "Out of memory": (halved, 40),
    "Streams": (sanitised, 40),
    "Compiled": (compiled, 100),
}


def machine(device: str) -> str:
    """What was measured on."""
    import torch
    import torchvision

    from ffdi.features.devices import device_line
    from ffdi.parallel import cpu_count

    cudnn = torch.backends.cudnn.version() if torch.cuda.is_available() else None
    return (
        f"{device_line(device)}; {cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, CUDA {torch.version.cuda}, cuDNN {cudnn}"
    )


def run_section(title: str, command: Sequence[str], seconds: float, page: Page) -> bool:
    """One section in a process of its own, cut off after `seconds`; whether it went through and all of it holds."""
    page.add("", f"## {title}", "", "| | | |", "| --- | --- | --- |")
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True)
        cut = threading.Event()

        def end() -> None:
            cut.set()
            os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(seconds, end)
        timer.start()
        good = True
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith('{"what"'):
                    row = Row(**json.loads(line))
                    page.add(str(row))
                    good = good and row.holds is not False
            code = process.wait()
        finally:
            timer.cancel()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        errors.seek(0)
        last = (errors.read().strip().splitlines() or ["no message"])[-1]
    spent = time.perf_counter() - started
    if cut.is_set():
        page.add(f"| this section | cut off after its {seconds:.0f} s | not whole |")
    elif code:
        page.add(f"| this section | failed: {last[:300].replace('|', '/')} | not whole |")
    print(f"({title}: {spent:.0f} s)", flush=True)
    page.write()
    return good and not code


@contextmanager
def work_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ffdi-bench-gpu-") as folder:
        yield Path(folder)


def sizes(folder: Path, device: str, quick: bool) -> Bench:
    """The lab and its networks, small or as faces are."""
    from lab import Lab

    if quick:
        lab = Lab(folder, device, 24, 96, 64)
        return Bench(lab, lab, True, ("mobilenet_v2", "shufflenet", "vit_tiny"))
    lab = Lab(folder, device, 4096, 512, 224)
    return Bench(lab, replace(lab, count=256), False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: to see that it runs")
    parser.add_argument("--minutes", type=float, default=9.0, help="of all sections together, on a GPU")
    parser.add_argument("--sections", nargs="*", metavar="TITLE", help="only those whose title begins so")
    parser.add_argument("--out", type=Path, help="[default: bench/gpu.md, and nothing for the CPU or --quick]")
    parser.add_argument("--section", nargs=2, metavar=("TITLE", "FOLDER"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    started = time.monotonic()
    if chosen.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    from ffdi.features.devices import device_line, has_cuda

    if chosen.device == "cuda" and not has_cuda():
        sys.exit(f"bench/gpu.py needs a GPU, and here is {device_line()}")
    if chosen.section:
        title, folder = chosen.section
        for row in SECTIONS[title][0](sizes(Path(folder), chosen.device, chosen.quick)):
            print(json.dumps(asdict(row)), flush=True)
        return
    real = chosen.device == "cuda" and not chosen.quick
    page = Page(chosen.out or (HERE / "gpu.md" if real else None))
    what = "measured by `make bench-gpu`" if real else "a dry run: its figures mean nothing"
    page.add(f"# On a GPU, {what}", "", f"{machine(chosen.device)}.")
    good = []
    with work_folder() as folder:
        for title, (_, limit) in SECTIONS.items():
            if chosen.sections and not any(title.startswith(one) for one in chosen.sections):
                continue
            left = 60 * chosen.minutes - (time.monotonic() - started) if chosen.device == "cuda" else math.inf
            if left < 5:
                page.add("", f"## {title}", "", "Not measured: the time was over.")
                page.write()
                good.append(False)
                continue
            command = [sys.executable, __file__, "--device", chosen.device, *(["--quick"] if chosen.quick else [])]
            command += ["--section", title, str(folder)]
            seconds = limit if chosen.device == "cuda" else 6 * limit  # nobody waits for a dry run with a watch in hand
            good.append(run_section(title, command, min(seconds, left), page))
    page.add("", f"{sum(good)} of {len(good)} sections are whole, and all that they hold true holds.")
    page.write()
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
