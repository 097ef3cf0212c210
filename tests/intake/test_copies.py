"""Copies of one photo are found after any of the listed changes; different pictures are not reported."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageOps

from ffdi.console import Console
from ffdi.errors import InputError
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.near_duplicates import copies
from ffdi.intake.near_duplicates.copies import Copies, correlation, find_copies, read_sketches
from ffdi.intake.near_duplicates.one_photo import same_picture
from ffdi.intake.near_duplicates.variants import hash_small, render, sketch, variant_hashes

Picture = Image.Image


def photo(seed: int, size: int = 160) -> Picture:
    """A picture with detail at four scales, mostly of one hue, as photos have it."""
    rng = np.random.default_rng(seed)
    pixels = np.full((size, size, 3), 120.0)
    for cells, light, hue in ((3, 60, 15), (6, 45, 8), (12, 30, 4), (24, 18, 2)):
        grid = rng.integers(0, 256, (cells, cells, 4), dtype=np.uint8)
        layers = np.asarray(Image.fromarray(grid, "RGBA").resize((size, size), Image.Resampling.BICUBIC)) / 127.5 - 1
        pixels += light * layers[..., :1] + hue * layers[..., 1:]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def crop(picture: Picture, side: float, left: float, top: float) -> Picture:
    """A square of this share of the side, enlarged to the old size; `left` and `top` are shares of the room."""
    width = picture.width
    x, y = left * (1 - side) * width, top * (1 - side) * width
    box = (x, y, x + side * width, y + side * width)
    return picture.resize(picture.size, Image.Resampling.BICUBIC, box=box)


def exposed(picture: Picture, factor: float) -> Picture:
    return picture.point(lambda value: min(255, int(value * factor)))


def turned(picture: Picture, degrees: float) -> Picture:
    return picture.rotate(degrees, Image.Resampling.BICUBIC)


def compressed(picture: Picture, quality: int) -> Picture:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def patched(picture: Picture, other: Picture) -> Picture:
    out = picture.copy()
    out.paste(other.crop((50, 60, 90, 100)), (50, 60))
    return out


def all_pairs(rows: Any, others: Any) -> Any:
    return np.ones(len(rows), bool)


def found(*pictures: Picture) -> list[list[int]]:
    return find_copies(np.stack([sketch(p) for p in pictures]), all_pairs).pairs.tolist()


@pytest.fixture(scope="module")
def sketches() -> Any:
    """Twelve unlike pictures, then of the first six a crop, a mirrored rotation or a recompressed copy."""
    originals = [photo(seed) for seed in range(12)]
    changed = [
        crop(originals[0], 0.9, 0.3, 0.8),
        ImageOps.mirror(turned(originals[1], 8)),
        compressed(originals[2], 60),
        ImageOps.flip(originals[3]),
        patched(originals[4], originals[5]),
        crop(ImageOps.mirror(originals[5]), 0.85, 0.1, 0.6),
    ]
    return np.stack([sketch(p) for p in (*originals, *changed)])


DUE = [[i, 12 + i] for i in range(6)]


def test_a_sketch_is_small_and_grey() -> None:
    for picture in (photo(1), photo(1, 33).convert("L"), photo(1).resize((200, 50))):
        made = sketch(picture)
        assert made.shape == (64, 64) and made.dtype == np.uint8
    grey = Image.fromarray(sketch(photo(1)))
    assert (sketch(grey) == np.asarray(grey)).all()


@pytest.mark.parametrize("seed", range(20))
def test_the_hash_of_a_sketch_is_that_of_imagehash(seed: int) -> None:
    made = sketch(photo(seed))
    theirs = int(str(imagehash.phash(Image.fromarray(made))), 16)
    assert (theirs ^ int(variant_hashes(made)[0])).bit_count() <= 2  # imagehash rounds to bytes in between


@pytest.mark.parametrize("seed", range(3))
def test_each_variant_is_rendered_as_it_is_hashed(seed: int) -> None:
    made = sketch(photo(seed))
    hashes = variant_hashes(made)
    assert 300 < len(hashes) < 320 and len(set(hashes.tolist())) > 100 and hashes.dtype == np.uint64
    rendered = np.stack([render(made, variant) for variant in range(len(hashes))])
    assert rendered.shape[1:] == (32, 32)
    assert (hash_small(rendered) == hashes).all()


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "recompressed": lambda p: compressed(p, 50),
    "smaller": lambda p: p.resize((70, 70)),
    "other shape": lambda p: p.resize((200, 90)),
    "a little off the left": lambda p: crop(p, 0.96, 1.0, 0.5),
    "middle": lambda p: crop(p, 0.9, 0.5, 0.5),
    "corner": lambda p: crop(p, 0.85, 0.0, 1.0),
    "anywhere": lambda p: crop(p, 0.82, 0.3, 0.8),
    "rotated by 3": lambda p: turned(p, 3),
    "rotated by -11": lambda p: turned(p, -11),
    "rotated by 20": lambda p: turned(p, 20),
    "upside down": ImageOps.flip,
    "quarter left": lambda p: p.transpose(Image.Transpose.ROTATE_90),
    "quarter right": lambda p: p.transpose(Image.Transpose.ROTATE_270),
    "exposed by 1.5": lambda p: exposed(p, 1.5),
    "exposed by 2": lambda p: exposed(p, 2.0),
    "exposed by 2.5": lambda p: exposed(p, 2.5),
    "equalised": lambda p: ImageOps.equalize(p.convert("L")).convert("RGB"),
    "mirrored": lambda p: p,
}


@pytest.mark.parametrize("seed", range(4))
def test_a_dark_picture_and_its_equalised_copy_are_found(seed: int) -> None:
    dark = photo(seed).convert("L").point([round(255 * (value / 255) ** 5) for value in range(256)])
    assert found(dark, ImageOps.equalize(dark)) == found(ImageOps.mirror(ImageOps.equalize(dark)), dark) == [[0, 1]]


@pytest.mark.parametrize("seed", range(4))
def test_a_hash_alone_makes_no_copy(seed: int) -> None:
    stripes = 30 * np.sign(np.sin(2 * np.pi * np.arange(64) / 5 + 0.3))  # finer than a hash sees
    soft = 128 + (sketch(photo(seed)) - 120.0) / 2
    pair = np.clip([soft, soft + stripes], 0, 255).astype(np.uint8)
    hashes = [int(variant_hashes(one)[0]) for one in pair]
    assert (hashes[0] ^ hashes[1]).bit_count() <= 6
    assert find_copies(pair, all_pairs).pairs.tolist() == []


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("kind", CHANGES)
def test_a_changed_copy_is_found_from_either_side(kind: str, mirrored: bool) -> None:
    for seed in range(4):
        original, stranger = photo(seed), photo(seed + 100)
        copy = CHANGES[kind](original)
        copy = ImageOps.mirror(copy) if mirrored or kind == "mirrored" else copy
        assert found(original, stranger, copy) == [[0, 2]]
        assert found(copy, original, stranger) == [[0, 1]]


def test_unlike_pictures_are_no_copies() -> None:
    assert found(*(photo(seed) for seed in range(150))) == []


def test_each_pair_once_with_its_correlation(sketches: Any) -> None:
    out = find_copies(sketches, all_pairs)
    assert out.pairs.tolist() == DUE and out.pairs.dtype == np.int64
    assert (out.correlation >= copies.CORRELATION).all() and out.correlation[[2, 3]] == pytest.approx(1, abs=1e-3)
    assert out.correlation[4] < 0.99  # the pasted patch


def test_of_many_copies_each_two_are_a_pair() -> None:
    one = photo(3)
    changed = [one, compressed(one, 40), crop(one, 0.95, 0.5, 0.5), ImageOps.mirror(one)]
    assert found(*changed) == [[a, b] for a in range(4) for b in range(a + 1, 4)]
    equal = find_copies(np.stack([sketch(one)] * 3), all_pairs)
    assert equal.pairs.tolist() == [[0, 1], [0, 2], [1, 2]]
    assert equal.correlation == pytest.approx(1)


def test_unwanted_pairs_are_not_found(sketches: Any) -> None:
    asked: list[tuple[int, int]] = []

    def wanted(rows: Any, others: Any) -> Any:
        asked.extend(zip(rows.tolist(), others.tolist(), strict=True))
        return (rows % 2 == 1) & (others % 2 == 1)

    assert find_copies(sketches, wanted).pairs.tolist() == [pair for pair in DUE if pair[0] % 2]
    assert {row for pair in asked for row in pair} <= set(range(18))
    none = find_copies(sketches, lambda rows, others: np.zeros(len(rows), bool))
    assert none.pairs.shape == (0, 2) and none.correlation.shape == (0,)


def test_the_order_of_rows_only_renumbers(sketches: Any) -> None:
    whole = find_copies(sketches, all_pairs)
    order = np.random.default_rng(0).permutation(len(sketches))
    out = find_copies(sketches[order], all_pairs)
    assert (out.pairs[:, 0] < out.pairs[:, 1]).all() and out.pairs.tolist() == sorted(out.pairs.tolist())
    back = [sorted(order[pair].tolist()) for pair in out.pairs]
    again = sorted(range(len(back)), key=back.__getitem__)
    assert [back[i] for i in again] == whole.pairs.tolist() == DUE
    assert out.correlation[again] == pytest.approx(whole.correlation)


@pytest.mark.parametrize(("images", "workers"), [(1, 1), (5, 3), (64, 1), (1000, 4)])
def test_blocks_and_workers_do_not_show(
    sketches: Any, monkeypatch: pytest.MonkeyPatch, images: int, workers: int
) -> None:
    whole = find_copies(sketches, all_pairs)
    monkeypatch.setattr(copies, "_IMAGES", images)
    monkeypatch.setattr(copies, "cpu_count", lambda: workers)
    seen = []

    def progress(blocks: Iterator[Any], total: int, *, unit: str = "images", phase: str = "") -> Iterator[Any]:
        assert (total, unit, phase) == (-(-len(sketches) // images), "blocks", "search")
        for block in blocks:
            seen.append(block)
            yield block

    out = find_copies(sketches, all_pairs, Console(progress=progress))
    assert (out.pairs == whole.pairs).all()
    assert out.correlation.tolist() == whole.correlation.tolist()
    assert len(seen) == -(-len(sketches) // images)


def test_no_image_and_one_image_have_no_copy() -> None:
    for count in (0, 1):
        out = find_copies(sketch(photo(1))[None][:count], all_pairs)
        assert isinstance(out, Copies) and out.pairs.shape == (0, 2)
        assert out.correlation.shape == (0,)


def test_flat_images_are_like_nothing(sketches: Any) -> None:
    flat = np.stack([np.full((64, 64), value, np.uint8) for value in (0, 0, 1, 77, 77, 128, 254, 255, 255)])
    assert find_copies(flat, all_pairs).pairs.tolist() == []
    out = find_copies(np.concatenate([flat, sketches]), all_pairs)
    assert out.pairs.tolist() == [[a + 9, b + 9] for a, b in DUE]


def test_correlation_is_that_of_pearson() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 32, 32))
    assert correlation(one, other) == pytest.approx(np.corrcoef(one.ravel(), other.ravel())[0, 1])
    assert correlation(one, 3 * one + 7) == pytest.approx(1) and correlation(one, -one) == pytest.approx(-1)
    assert correlation(one, np.full((32, 32), 9.0)) == correlation(np.zeros((32, 32)), one) == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_the_same_picture_is_alike_everywhere(seed: int) -> None:
    original = photo(seed)
    one = sketch(original)
    for copy in (compressed(original, 60), original.resize((90, 90)), original.point(lambda v: int(v * 0.8) + 9)):
        assert same_picture(one, sketch(copy)) and same_picture(sketch(ImageOps.mirror(copy)), one)
    faint = Image.blend(original, patched(original, photo(seed + 50)), 0.5)
    for edited in (faint, patched(original, photo(seed + 50)), crop(original, 0.9, 0.5, 0.5), photo(seed + 50)):
        assert not same_picture(one, sketch(edited)) and not same_picture(sketch(edited), one)


def test_a_pasted_patch_is_a_copy_but_not_the_same() -> None:
    original = photo(2)
    pictures = [original, compressed(original, 60), patched(original, photo(52))]
    one, again, edited = seen = np.stack([sketch(p) for p in pictures])
    assert find_copies(seen, all_pairs).pairs.tolist() == [[0, 1], [0, 2], [1, 2]]
    assert same_picture(one, again) and not same_picture(one, edited) and not same_picture(again, edited)


def test_sketches_are_read_in_order(tmp_path: Path) -> None:
    for seed in range(5):
        photo(seed).save(tmp_path / f"{seed}.png")
    paths = [f"{seed}.png" for seed in (3, 0, 4, 1)]
    seen: list[Any] = []

    def progress(results: Iterator[Any], total: int, *, unit: str = "images", phase: str = "") -> Iterator[Any]:
        assert (total, unit, phase) == (4, "images", "copies")
        for result in results:
            seen.append(result)
            yield result

    out = read_sketches(ImageSource(tmp_path, 10**6), [(path, "") for path in paths], Console(progress=progress))
    assert out.shape == (4, 64, 64) and out.dtype == np.uint8 and len(seen) == 4
    assert (out == np.stack([sketch(photo(seed)) for seed in (3, 0, 4, 1)])).all()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    photo(0).save(tmp_path / "whole.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "whole.png").read_bytes()[:300])
    for name, says in (("gone.png", "cannot be read: No such file"), ("broken.png", "damaged")):
        with pytest.raises(InputError, match=rf"{tmp_path.name}/{name}: {says}"):
            read_sketches(ImageSource(tmp_path, 10**6), [("whole.png", ""), (name, "")])
    with pytest.raises(InputError, match=r"whole.png: 160x160 is more than data.max_pixels = 100"):
        read_sketches(ImageSource(tmp_path, 100), [("whole.png", "")])
