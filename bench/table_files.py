"""images.csv or images.parquet of N rows, written and read: seconds, peak memory and bytes, each in a process of its own.

python -m bench.table_files --rows 100000 1000000
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from ffdi.intake.tables import read_images, write_table


def images(rows: int) -> pd.DataFrame:
    """Rows as those of videos of 100 frames each."""
    ids = sorted(hashlib.sha256(str(row).encode()).hexdigest() for row in range(rows))
    return pd.DataFrame(
        {
            "image_id": ids,
            "path": [f"train/{row % 9973:05}/{row:09}.jpg" for row in range(rows)],
            "label": np.arange(rows) % 2,
            "group": [f"video-{row // 100:07}" for row in range(rows)],
            "given_split": "",
            "width": 256,
            "height": 256,
            "format": "JPEG",
            "phash": [image_id[:32] for image_id in ids],
            "attr_method": np.where(np.arange(rows) % 2, "faceswap", ""),
        }
    )


def megabytes() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(step: str, rows: int, file: Path) -> None:
    """Print the line of one step."""
    table = images(rows) if step == "write" else None
    before, start = megabytes(), time.perf_counter()
    if table is not None:
        write_table(file, table)
    else:
        read_images(file)
    seconds, more = time.perf_counter() - start, megabytes() - before
    size = file.stat().st_size
    print(
        f"| {file.suffix[1:]} | {rows:,} | {step} | {seconds:.2f} | {1e6 * seconds / rows:.2f} | {more:.0f} "
        f"| {size / 1e6:.0f} |",
        flush=True,
    )


def main() -> None:
    """Measure every step in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--step", nargs=2, metavar=("STEP", "FILE"), help="one step, in this process")
    given = parser.parse_args()
    if given.step:
        measure(given.step[0], given.rows[0], Path(given.step[1]))
        return
    print("| tables | rows | step | s | us a row | MB more | MB of the file |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for rows in given.rows:
            for ending in ("csv", "parquet"):
                for step in ("write", "read"):
                    options = ["--rows", str(rows), "--step", step, f"{folder}/images.{ending}"]
                    subprocess.run([sys.executable, "-m", "bench.table_files", *options], check=True)


if __name__ == "__main__":
    main()
