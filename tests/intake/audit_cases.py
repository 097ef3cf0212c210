"""A clean set of twelve images, and the findings of one check."""

from typing import Any

import numpy as np
import pandas as pd

from ffdi.intake.auditing.findings import Finding
from ffdi.intake.auditing.leaks import find_leaks
from ffdi.intake.settings import AuditSettings


def leaks(rows: pd.DataFrame, check: str, **changes: Any) -> list[Finding]:
    """All findings, which must be of the one check."""
    fields = {key: changes.pop(key) for key in ("phash_bits", "find_copies", "min_cosine") if key in changes}
    found = find_leaks(rows, AuditSettings(**({"phash_bits": 0, "min_cosine": 1.0} | fields)), **changes)
    assert {f.check for f in found} <= {check}
    return found


def clean_rows() -> pd.DataFrame:
    """Twelve images in six groups of a real and a fake: two groups in the test set, two in each of two folds."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "image_id": [f"id{i:02d}" for i in range(12)],
            "path": [f"{i}.jpg" for i in range(12)],
            "label": [0, 1] * 6,
            "intake_group": "",
            "group": [f"g{i // 2}" for i in range(12)],
            "role": ["test"] * 4 + ["train"] * 8,
            "fold": [-1] * 4 + [0] * 4 + [1] * 4,
            "phash": [f"{a:016x}{b:016x}" for a, b in rng.integers(0, 2**63, (12, 2))],
        }
    )
