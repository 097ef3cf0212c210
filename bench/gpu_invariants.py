"""Sections of bench/gpu.py: what must hold on a GPU."""

from __future__ import annotations

import time
from typing import Any

from gpu_page import Bench, Row, Rows


def alike_in_a_batch(bench: Bench) -> Rows:
    """One image at every place of a batch, with other neighbours at each."""
    from checks import differing_places

    precisions = ("float32", "tf32", "float16", "bfloat16") if bench.on_gpu else ("float32",)
    for name in (bench.networks[0], bench.networks[2]):
        for precision in precisions:
            runtime = bench.lab.prefix(name, precision=precision).open()
            for batch in (bench.batch, bench.batch // 2):
                places = differing_places(runtime, bench.lab.pictures(name, batch + 7), batch)
                what = f"{name} {precision}, batch {batch}: one image at all places, other neighbours at each"
                yield Row(what, f"{batch - len(places)} of {batch} equal to the bit", holds=not places)


def trained_twice(bench: Bench) -> Rows:
    """The bundle of a second training, and of one that was killed."""
    from checks import training_that_differs

    for name, head in ((bench.networks[0], "mlp"), (bench.networks[1], "transformer")):
        differ = training_that_differs(bench.few, name, head)
        for kind, said in (("second", "trained twice"), ("killed", "killed in mid-training and gone on")):
            yield Row(
                f"{name}, head {head}: {said}", ", ".join(differ[kind]) or "the same bundle", holds=not differ[kind]
            )


def swept_twice(bench: Bench) -> Rows:
    """A sweep whose features are computed gives the figures of one whose features are cached; in bfloat16, too."""
    from checks import evaluate_bundle, sweeps_that_differ, train_bundle

    name, lab = bench.networks[0], bench.few
    model = lab.folder / "swept"
    train_bundle(lab, name, "mlp", str(model))
    differ = sweeps_that_differ(lab, name, model)
    yield Row(f"{name}: a sweep computed, and cached", ", ".join(differ) or "the same figures", holds=not differ)
    changes: dict[str, Any] = {"precision": "bfloat16"} if bench.on_gpu else {}
    model = lab.folder / "reduced"
    train_bundle(lab, name, "mlp", str(model), **changes)
    metrics = evaluate_bundle(lab, name, str(model), **changes)
    what = f"{name} {'bfloat16' if changes else 'float32'}: trained, and evaluated with a sweep"
    yield Row(what, f"{len(metrics)} figures", holds=True)


def halved(bench: Bench) -> Rows:
    """A batch that exceeds the memory is halved, and no row is lost."""
    from checks import halve

    for name in bench.networks[:2]:
        found = halve(bench.lab, name, bench.batch)
        figure = (
            f"batch {found.before} to {found.after}, features moved by {found.moved:.0e}, said {len(found.said)} times"
        )
        yield Row(f"{name}: under a cap on the memory", figure, holds=found.after < found.before and found.moved < 1e-3)


def compiled(bench: Bench) -> Rows:
    """Graphs that torch.compile makes, and makes again when the batch is halved under several threads."""
    from checks import compiled_graphs

    name = bench.networks[0]
    first, again, moved = compiled_graphs(bench.lab, name, bench.batch, threads=4)
    figure = f"{first} graphs, {again} more after a halving, features moved by {moved:.0e}"
    yield Row(f"{name}, compile: true, 4 threads", figure, holds=moved < 1e-3 and again <= 1)


def sanitised(bench: Bench) -> Rows:
    """A small extraction under torch's sanitizer, which looks for streams that touch each other's memory."""
    from checks import extract_here, fresh

    looks: dict[str, Any] = {"TORCH_CUDA_SANITIZER": "1"} if bench.on_gpu else {}  # it wants a driver
    for decoder in ("pillow", "nvjpeg") if bench.on_gpu else ("pillow",):
        out = str(bench.few.folder / f"sanitised-{decoder}")
        what = f"{'under the sanitizer' if looks else 'without a GPU no sanitizer'}, decoder {decoder}: extract"
        try:
            computed = fresh(bench.few, extract_here, bench.networks[0], out, decoder, **looks)
        except RuntimeError as error:
            yield Row(what, " ".join(str(error).split())[-200:].replace("|", "/"), holds=False)
        else:
            yield Row(what, f"{computed} rows, nothing found" if looks else f"{computed} rows", holds=True)


def decoded(bench: Bench) -> Rows:
    """nvJPEG by 16 threads and by one, beside Pillow."""
    import numpy as np
    from checks import decode_all, differing_files

    many = 4 if bench.quick else 16
    found, rates = {}, {}
    for decoder, threads in (("pillow", many), ("nvjpeg", 1), ("nvjpeg", many)):
        decode_all(bench.lab, decoder, threads)  # starts nvJPEG, fills the file cache
        started = time.perf_counter()
        found[decoder, threads] = decode_all(bench.lab, decoder, threads)
        rates[decoder, threads] = len(found[decoder, threads].pixels) / (time.perf_counter() - started)
        yield Row(f"decoder {decoder}, {threads} threads", f"{rates[decoder, threads]:.0f} images/s")
    yield Row("nvjpeg / pillow", f"{rates['nvjpeg', many] / rates['pillow', many]:.2f}x")
    one, all_of_them = found["nvjpeg", 1], found["nvjpeg", many]
    same = one.pixels.tobytes() == all_of_them.pixels.tobytes()
    yield Row(f"nvjpeg, {many} threads against 1", "equal" if same else "NOT equal", holds=same)
    apart = np.abs(all_of_them.pixels.astype(np.int16) - found["pillow", many].pixels)
    yield Row("nvjpeg against pillow, grey levels", f"mean {apart.mean():.2f}, at most {apart.max()}")
    left = f"{all_of_them.not_plain} no plain JPEGs, {len(all_of_them.refused)} refused by nvJPEG"
    yield Row(f"of {len(one.pixels)} images left to Pillow", left)
    lab, name = bench.lab, bench.networks[0]
    chosen = "nvjpeg" if bench.on_gpu else "pillow"
    for out in ("one", "two"):
        done = lab.extract(name, lab.folder / f"{chosen}-{out}", decoder=chosen)
    yield Row(f"{name}, decoder {chosen}: extract", f"{done.computed / done.seconds['work']:.0f} views/s")
    differ = differing_files(lab.folder / f"{chosen}-one", lab.folder / f"{chosen}-two")
    yield Row(f"{name}, decoder {chosen}: extracted twice", ", ".join(differ) or "the same files", holds=not differ)
