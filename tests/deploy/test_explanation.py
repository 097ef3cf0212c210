"""The explanation of one picture: whose heat map it is, what it was asked for, and that it leaves the model alone."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import Tiny, Trained

from ffdi.deploy.detector import Detector, load
from ffdi.deploy.explanation.explain import explain, heated
from ffdi.deploy.explanation.occlusion import Patches
from ffdi.deploy.pictures import Picture, pictures_of
from ffdi.errors import FfdiError
from ffdi.evaluation.evaluate import state_hash


@pytest.fixture(scope="module")
def detector(trained: Trained) -> Detector:
    return load(trained.model)


@pytest.fixture(scope="module")
def picture(tiny: Tiny) -> Picture:
    (found,) = pictures_of(tiny.root / tiny.rows["path"].iloc[0])
    return found


def test_an_explanation_has_the_judgement_of_the_detector_and_maps_of_the_image(
    detector: Detector, picture: Picture
) -> None:
    (bundle,) = detector.model.parts
    before = state_hash(bundle)
    found = explain(detector, picture, patches=Patches(4, 1.0))
    (due,) = detector.judgements([picture])
    size = bundle.backbone.pixels.size
    assert found.judgement == due and found.image.shape == (size, size, 3)
    assert found.heat is not None and found.heat.min() >= 0 and found.heat.max() > 0.3
    assert found.method == f"Grad-CAM at {bundle.backbone.cut_name}" and found.member == ""
    assert found.occlusion is not None and found.occlusion.shape == (size, size) and np.abs(found.occlusion).max() > 0
    assert heated(found.picture, found.heat).size == (size, size)
    assert state_hash(bundle) == before


def test_the_heat_is_for_the_side_of_the_score_unless_another_is_asked_for(
    detector: Detector, picture: Picture
) -> None:
    found = explain(detector, picture)
    assert found.occlusion is None  # not asked for
    score = found.judgement.score
    assert score is not None and found.toward == ("fake" if score >= detector.model.threshold else "real")
    fake, real = (explain(detector, picture, toward=side, judgement=found.judgement) for side in ("fake", "real"))
    assert fake.heat is not None and real.heat is not None and found.heat is not None
    assert not np.array_equal(fake.heat, real.heat)
    assert np.array_equal(found.heat, fake.heat if found.toward == "fake" else real.heat)


def test_what_cannot_be_read_is_said(detector: Detector) -> None:
    with pytest.raises(FfdiError, match="image"):
        explain(detector, Picture("x.jpg", lambda: b"no image"))
