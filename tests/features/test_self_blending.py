"""Self-blended fakes: made of real training images only, kept on their side, never used for validation or test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Tiny, picture

from ffdi.demo.forgeries import REGIONS, self_blend
from ffdi.errors import InputError
from ffdi.features.backbone import Backbone, Views
from ffdi.features.extract import ExtractionSummary, extract_features
from ffdi.features.extractor import load_extractor
from ffdi.features.self_blending import synthesise, with_synthesised
from ffdi.features.settings import ExtractSettings
from ffdi.features.store import FeatureStore
from ffdi.intake.decoding.images import ImageSource


@pytest.fixture(scope="module")
def synthesised(tiny: Tiny) -> pd.DataFrame:
    return with_synthesised(tiny.rows, 2, seed=0)


def fakes(synthesised: pd.DataFrame) -> pd.DataFrame:
    return synthesised[synthesised["source"] != ""]


def test_every_real_training_image_has_its_fakes(synthesised: pd.DataFrame, tiny: Tiny) -> None:
    rows = tiny.rows
    sources = rows[(rows["label"] == 0) & (rows["role"] == "train")]
    assert sorted(fakes(synthesised)["source"]) == sorted([*sources["image_id"]] * 2)
    assert synthesised["image_id"].is_unique and (fakes(synthesised)["label"] == 1).all()
    pd.testing.assert_frame_equal(synthesised[synthesised["source"] == ""].drop(columns="source"), rows)


def test_a_fake_stands_where_its_source_stands(synthesised: pd.DataFrame) -> None:
    by_id = synthesised.set_index("image_id")
    for column in ("group", "cluster", "role", "fold", "path"):
        of_source = by_id.loc[fakes(synthesised)["source"], column]
        assert list(fakes(synthesised)[column]) == list(of_source), column
    assert set(fakes(synthesised)["role"]) == {"train"}


def test_none_are_asked_for(tiny: Tiny) -> None:
    assert len(with_synthesised(tiny.rows, 0, seed=0)) == len(tiny.rows)


def test_ids_depend_on_source_number_and_seed_alone(synthesised: pd.DataFrame, tiny: Tiny) -> None:
    shuffled = with_synthesised(tiny.rows.sample(frac=1, random_state=1), 3, seed=0)
    assert set(fakes(synthesised)["image_id"]) < set(shuffled["image_id"])  # the third is new, the two are as before
    assert not set(fakes(synthesised)["image_id"]) & set(
        with_synthesised(tiny.rows, 2, seed=1)["image_id"].iloc[len(tiny.rows) :]
    )


def test_a_fake_is_its_source_but_for_a_region() -> None:
    source = picture(3, 96)
    changed = []
    for number in range(8):
        made = synthesise(source, f"{number:064x}")
        assert made.size == source.size and made.mode == "RGB"
        assert made.tobytes() == synthesise(source, f"{number:064x}").tobytes()
        difference = np.abs(np.asarray(made, int) - np.asarray(source, int)).max(axis=-1)
        assert difference.max() > 5  # there is something to find
        assert (difference[:4] <= 1).all() and (difference[:, :4] <= 1).all()  # rounding, but for the region
        changed.append(float((difference > 2).mean()))
    assert len(set(changed)) == 8 and max(changed) < 0.8


def test_self_blending_stays_in_range_and_takes_every_region(monkeypatch: pytest.MonkeyPatch) -> None:
    from ffdi.demo import forgeries

    seen = set()
    real = forgeries.forge
    monkeypatch.setattr(forgeries, "forge", lambda *a: seen.add(a[3]) or real(*a))
    for seed in range(24):
        extreme = np.float32(np.random.default_rng(seed).integers(0, 2, (3, 48, 48)))
        made = self_blend(extreme, np.random.default_rng(seed))
        assert made.shape == (3, 48, 48) and made.min() >= 0 and made.max() <= 1 and np.isfinite(made).all()
    assert seen == set(REGIONS)


@pytest.fixture
def run(
    tiny: Tiny, weights: Path, tmp_path: Path, backbone: Callable[..., Backbone]
) -> Callable[..., ExtractionSummary]:
    def run(rows: pd.DataFrame, root: Path = tiny.root, **changes: object) -> ExtractionSummary:
        return extract_features(
            rows,
            load_extractor(backbone(**changes), weights),
            tmp_path / "features",
            source=ImageSource(root, 10**6),
            settings=ExtractSettings(workers=2, shard_rows=32),
        )

    return run


def test_their_features_are_added_to_what_is_there(
    tiny: Tiny, synthesised: pd.DataFrame, run: Callable[..., ExtractionSummary], tmp_path: Path
) -> None:
    first = run(tiny.rows)
    kept = FeatureStore(tmp_path / "features")
    before = kept.read(kept.rows)
    second = run(synthesised)
    assert (second.reused, second.computed) == (first.rows, 2 * len(fakes(synthesised)))  # two views each
    store = FeatureStore(tmp_path / "features")
    assert (store.read(kept.rows) == before).all()
    one = fakes(synthesised).iloc[0]
    of_fake, of_source = store.read([(one["image_id"], 0), (one["source"], 0)])
    assert not np.array_equal(of_fake, of_source)
    assert run(tiny.rows).computed == 0  # and taken away again
    assert len(FeatureStore(tmp_path / "features")) == first.rows


def test_cached_images_are_the_fakes(
    synthesised: pd.DataFrame, run: Callable[..., ExtractionSummary], tiny: Tiny, tmp_path: Path
) -> None:
    from PIL import Image

    run(synthesised, cut="input", views=Views())
    one = fakes(synthesised).iloc[1]
    stored = FeatureStore(tmp_path / "features").read([(one["image_id"], 0)])[0]
    source = Image.open(tiny.root / one["path"]).convert("RGB")
    assert (stored.transpose(1, 2, 0) == np.asarray(synthesise(source, one["image_id"]))).all()


def test_a_source_that_changed_is_refused(
    synthesised: pd.DataFrame, run: Callable[..., ExtractionSummary], tmp_path: Path
) -> None:
    rows = synthesised.copy()
    rows.loc[rows["source"] != "", "source"] = "0" * 64
    with pytest.raises(InputError, match="changed since it was ingested"):
        run(rows)
