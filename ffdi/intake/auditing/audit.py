"""The audit of a split: searches for leaks, probes for shortcuts, and what to say of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pandas as pd

from ffdi.bootstrap import Bootstrap
from ffdi.console import Console
from ffdi.errors import LeakError
from ffdi.intake.auditing.advice import advise, settings_that_join
from ffdi.intake.auditing.findings import SOURCE_OVERLAP, Finding, findings_table, leaks_among
from ffdi.intake.auditing.inverted_labels import inverted_labels, inverted_sides
from ffdi.intake.auditing.leaks import find_leaks
from ffdi.intake.auditing.probe_inputs import ProbeSample, read_probe_inputs
from ffdi.intake.auditing.probes import probe_shortcuts
from ffdi.intake.auditing.shortcuts import warnings
from ffdi.intake.auditing.summary import coverage, summarise
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.settings import AuditSettings, SplitSettings
from ffdi.intake.tables import join
from ffdi.metrics import Metrics

Embed = Callable[[pd.DataFrame], npt.NDArray[Any]]  # rows of images.csv -> (N, D) embeddings


@dataclass(frozen=True)
class Audit:
    """What an audit found in `rows` (images.csv joined with folds.csv); `summary` has all figures."""

    rows: pd.DataFrame
    settings: AuditSettings
    findings: list[Finding]
    summary: Metrics

    @property
    def leaks(self) -> list[Finding]:
        """The findings that stop the pipeline."""
        return leaks_among(self.findings)

    def warnings(self, split: SplitSettings) -> list[str]:
        """A line for each probe, and one where real photos and their forgeries stand on two sides."""
        lines = warnings(self.summary)
        if pairs := self.summary["source_overlap"]:
            overlap = [finding for finding in self.findings if SOURCE_OVERLAP in finding.checks]
            lines.append(
                f"WARNING: {pairs} pairs of a real photo and its forgery stand on two sides, with "
                f"{self.summary['source_overlap_test_share']:.1%} of the test images{self._remedy(overlap, split)}"
            )
        return lines

    def table(self) -> pd.DataFrame:
        """data/audit_findings.csv."""
        return findings_table(self.findings)

    def refuse_leaks(self, split: SplitSettings, findings_file: Path | None) -> None:
        """LeakError where there are leaks, unless the settings let them pass.

        It says how many, the first, and which settings would keep them together.
        """
        leaks = self.leaks
        if not leaks or not self.settings.fail:
            return
        first = leaks[0]
        listed = f"; all are in {findings_file}" if findings_file else ""
        raise LeakError(
            f"{len(leaks)} leaks, the first: {first.check} {first.path_a} {first.path_b} ({first.detail})"
            f"{listed}{self._remedy(leaks, split)}"
        )

    def verdict(self) -> str:
        """How many leaks there are, and how much the audit could know."""
        found = f"{len(self.leaks)} leaks in {len(self.rows)} images and {self.rows['group'].nunique()} groups"
        return f"{found}; {coverage(self.summary)}"

    def _remedy(self, findings: list[Finding], split: SplitSettings) -> str:
        advice = advise(findings, self.rows, settings_that_join(split, self.settings), use_given=split.use_given)
        return f"; {advice}" if advice else ""


def audit_images(
    images: pd.DataFrame,
    folds: pd.DataFrame,
    source: ImageSource,
    settings: AuditSettings,
    bootstrap: Bootstrap,
    embed: Embed,
    console: Console = Console(),
) -> Audit:
    """Audit images.csv and folds.csv; `embed` is called only for `use_embedding`.

    Raises InputError where the tables do not fit, or a file cannot be read.
    """
    rows = join(images, folds)
    inputs = read_probe_inputs(rows, source, console)
    embeddings = embed(rows) if settings.use_embedding else None
    sample = ProbeSample.take(rows, inputs, embeddings)
    inverted = inverted_labels(sample, bootstrap)
    findings = find_leaks(
        rows,
        settings,
        sketches=inputs.sketches,
        embeddings=embeddings,
        inverted=[inverted] if inverted else inverted_sides(sample, bootstrap),
        console=console,
    )
    probes = probe_shortcuts(sample, bootstrap)
    summary = summarise(findings, rows, probes, dropped=int((folds["role"] == "dropped").sum()))
    return Audit(rows, settings, findings, summary)
