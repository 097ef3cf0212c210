"""Which settings of split would keep the pairs together that the audit found on two sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pandas as pd

from ffdi.intake.auditing.findings import COPY, EMBEDDING, PERCEPTUAL, Finding
from ffdi.intake.settings import AuditSettings, SplitSettings


def settings_that_join(split: SplitSettings, audit: AuditSettings) -> dict[str, str]:
    """Check -> the setting that would make split join what it finds; only settings that are not so already."""
    out = {}
    if audit.phash_bits > split.phash_bits:
        out[PERCEPTUAL] = f"split.phash_bits: {audit.phash_bits}"
    if not split.find_copies:
        out[COPY] = "split.find_copies: true"
    if not split.use_embedding:
        out[EMBEDDING] = "split.use_embedding: true"
    return out


def advise(findings: list[Finding], rows: pd.DataFrame, joins: Mapping[str, str], *, use_given: bool) -> str:
    """What would keep the pairs of these findings together, "" where no setting would.

    `joins` maps a check to the setting of `split` that would join what it finds; `rows` are those of find_leaks. Where
    `use_given`, no setting joins what the data's own split parts.
    """
    given = dict(zip(rows["path"], rows["given_split"], strict=True))
    parted_by_data, by_setting = 0, Counter[str]()
    for finding in findings:
        ends = {given.get(finding.path_a, ""), given.get(finding.path_b, "")} - {""}
        if use_given and len(ends) > 1:
            parted_by_data += 1
        elif setting := next((joins[search] for search in finding.found_by if search in joins), ""):
            by_setting[setting] += 1
    lines = [f"{setting} would join {count} of them" for setting, count in by_setting.items()]
    if parted_by_data:
        lines.append(
            f"the data's own split parts {parted_by_data} of them: leave out one image of each, or split.use_given: "
            "false draws another"
        )
    return "; ".join(lines)
