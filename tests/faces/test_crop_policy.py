"""Crops that are there are not made again while the policy is the same, so code that makes others must change its name."""

from __future__ import annotations

import hashlib

import numpy as np

from ffdi.faces.crop_set import CROP_POLICY
from ffdi.faces.crops import crop_face
from ffdi.faces.face import Box, Face
from ffdi.faces.settings import CropSettings

DIGESTS = {
    "crops-1": "7cde1de35b3b798a48f2fd380ebd399e449813c4c75fefe01662b587f8614283"
}  # policy -> sha256 of the pixels below


def test_a_crop_changes_only_with_the_policy() -> None:
    rows, columns = np.mgrid[:90, :120]
    pixels = np.stack([rows * 2, columns * 2, (rows * columns) % 256], axis=2).astype(np.uint8)
    eyes_nose_mouth = np.array([[48, 38], [68, 36], [59, 48], [51, 58], [68, 57]], np.float32)
    face = Face(Box(40.25, 22.5, 78.75, 66.0), 0.9, eyes_nose_mouth)
    digest = hashlib.sha256()
    for size in (32, 96):  # reduced and enlarged
        digest.update(crop_face(pixels, face, CropSettings(size=size)).tobytes())
        digest.update(crop_face(pixels, face, CropSettings(size=size, align="similarity")).tobytes())
    assert DIGESTS.get(CROP_POLICY) == digest.hexdigest(), "name a new CROP_POLICY in ffdi/faces/crop_set.py, and this"
