"""Images at a URL: read and decoded from a folder, and from a server on loopback that answers late, by how many are
fetched at a time.

    python bench/remote.py                # 400 JPEGs of 512 x 512, 50 ms an answer
    python bench/remote.py --latency 0.2

One process serves the images; another one reads and decodes all of them as every stage does, by a thread for each core.
The cases take turns; the median of each is printed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ffdi.intake.decoding.images import ImageSource, read_image
from ffdi.intake.decoding.read_ahead import ReadAhead
from ffdi.parallel import cpu_count, ordered_map
from ffdi.storage import Remote


class _Late(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    latency = 0.0

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        time.sleep(self.latency)
        super().do_GET()


def draw(folder: Path, count: int, side: int) -> list[str]:
    """`count` smooth noisy JPEGs; their names."""
    paths = [f"{number:05d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        rng = np.random.default_rng(number)
        coarse = Image.fromarray(rng.integers(0, 256, (side // 16, side // 16, 3), dtype=np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(folder / path, quality=90)
    return paths


def serve(folder: str, latency: float, port: Any) -> None:
    """Serve a folder on a free port of loopback, which is put into `port`, until the process is ended."""
    _Late.latency = latency
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Late, directory=folder))
    server.request_queue_size = 256
    port.value = server.server_address[1]
    server.serve_forever()


def rate(paths: list[str], source: ImageSource, readers: int) -> float:
    """Images a second that are read and decoded, by a thread for each core."""
    ahead = ReadAhead(source, readers, 2 * readers)
    began = time.perf_counter()
    read = partial(read_image, source, image_id="", ahead=ahead)
    for _ in ordered_map(read, ahead.over(paths, lambda path: [(path, "")]), cpu_count()):
        pass
    return len(paths) / (time.perf_counter() - began)


def main() -> None:
    """Draw, serve, measure, print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--images", type=int, default=400)
    options.add_argument("--side", type=int, default=512)
    options.add_argument("--latency", type=float, default=0.05, help="seconds before an answer")
    options.add_argument("--repeats", type=int, default=3)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        paths, port = draw(Path(temporary), chosen.images, chosen.side), multiprocessing.Value("i", 0)
        work = partial(serve, temporary, chosen.latency, port)
        server = multiprocessing.get_context("fork").Process(target=work, daemon=True)
        server.start()
        while not port.value:
            time.sleep(0.05)
        url = ImageSource(Remote(f"http://127.0.0.1:{port.value}/"))
        cases = {"folder": (ImageSource(Path(temporary)), 1)}
        cases |= {f"URL, {n} at a time": (url, n) for n in (1, 8, 64)}
        rates: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(chosen.repeats):
            for name, case in cases.items():
                rates[name].append(rate(paths, *case))
        server.terminate()
    print(f"{chosen.images} JPEGs of {chosen.side} x {chosen.side}, {chosen.latency * 1e3:.0f} ms, {cpu_count()} cores")
    for name, found in rates.items():
        print(f"| {name} | {statistics.median(found):.0f} images/s |")


if __name__ == "__main__":
    main()
