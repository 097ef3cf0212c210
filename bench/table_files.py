"""images.csv or images.parquet of N rows, written and read: seconds, CPU time, peak memory and bytes, each in a process of its own.

python -m bench.table_files --rows 100000 1000000
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ffdi.intake.tables import read_images, write_table


def images(rows: int) -> pd.DataFrame:
    """Rows as those of videos of 100 frames each, made column by column."""
    digits = pa.py_buffer(np.random.default_rng(0).bytes(32 * rows).hex().encode())
    ids = pa.LargeStringArray.from_buffers(rows, pa.py_buffer(np.arange(rows + 1, dtype=np.int64) * 64), digits)
    ids = ids.take(pc.sort_indices(ids))
    number = pc.utf8_lpad(pa.array(np.arange(rows)).cast(pa.large_string()), 9, "0")
    columns = {
        "image_id": ids,
        "path": _joined("train/", pc.utf8_slice_codeunits(number, 5), "/", number, ".jpg"),
        "label": np.arange(rows) % 2,
        "group": _joined("video-", pc.utf8_slice_codeunits(number, 0, 7)),
        "given_split": "",
        "width": 256,
        "height": 256,
        "format": "JPEG",
        "phash": pc.utf8_slice_codeunits(ids, 0, 32),
        "attr_method": np.where(np.arange(rows) % 2, "faceswap", ""),
    }
    return pd.DataFrame({name: one.to_pandas() if isinstance(one, pa.Array) else one for name, one in columns.items()})


def _joined(*parts: str | pa.Array) -> pa.Array:
    texts = [pa.scalar(part, pa.large_string()) if isinstance(part, str) else part for part in (*parts, "")]
    return pc.binary_join_element_wise(*texts)


def megabytes() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(step: str, rows: int, file: Path) -> None:
    """Print the line of one step."""
    table = images(rows) if step == "write" else None
    before, start, cpu = megabytes(), time.perf_counter(), time.process_time()
    if table is not None:
        write_table(file, table)
    else:
        read_images(file)
    seconds, cpu, more = time.perf_counter() - start, time.process_time() - cpu, megabytes() - before
    size = file.stat().st_size
    print(
        f"| {file.suffix[1:]} | {rows:,} | {step} | {seconds:.2f} | {1e6 * cpu / rows:.2f} | {more:.0f} "
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
    print("| tables | rows | step | s | CPU us a row | MB more | MB of the file |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for rows in given.rows:
            for ending in ("csv", "parquet"):
                for step in ("write", "read"):
                    options = ["--rows", str(rows), "--step", step, f"{folder}/images.{ending}"]
                    subprocess.run([sys.executable, "-m", "bench.table_files", *options], check=True)


if __name__ == "__main__":
    main()
