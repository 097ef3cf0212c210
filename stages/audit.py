"""Prove that nothing leaks, or fail; measure the data's own shortcuts."""

from dataclasses import replace
from pathlib import Path

import click

from ffdi.errors import LeakError
from ffdi.params import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console, say


@stage_command()
@click.option("--params", "params_file", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--root", type=click.Path(path_type=Path))
@click.option("--weights", type=click.Path(path_type=Path))
@click.option("--images", "images_file", type=click.Path(path_type=Path), default=Path("data/images.csv"))
@click.option("--folds", "folds_file", type=click.Path(path_type=Path), default=Path("data/folds.csv"))
@click.option("--out", type=click.Path(path_type=Path), default=Path("metrics/audit.json"))
@click.option("--details", type=click.Path(path_type=Path), help="[default: details/ beside --out]")
@click.option("--findings", "findings_file", type=click.Path(path_type=Path))
@click.option("--ok", type=click.Path(path_type=Path))
def main(
    params_file: Path,
    root: Path | None,
    weights: Path | None,
    images_file: Path,
    folds_file: Path,
    out: Path,
    details: Path | None,
    findings_file: Path | None,
    ok: Path | None,
) -> None:
    """Prove that nothing leaks, or fail; measure the data's own shortcuts."""
    params = read_params(params_file)
    from ffdi.bootstrap import Bootstrap
    from ffdi.evaluation.headline import of_audit, write_metrics
    from ffdi.files import write_text
    from ffdi.intake.audit import (
        SOURCE_OVERLAP,
        advise,
        find_leaks,
        findings_table,
        leaks_among,
        settings_that_join,
        summarise,
        what_it_could_know,
    )
    from ffdi.intake.decoding.images import ImageSource
    from ffdi.intake.probes import inverted_labels, inverted_sides, probe_shortcuts, read_probe_inputs, warnings
    from ffdi.intake.tables import join, read_folds, read_images, tables_digest, write_table

    audit, root, pixels = params.audit, params.root(root), params.data.max_pixels
    if ok:
        ok.unlink(missing_ok=True)
    images = read_images(images_file)
    folds = read_folds(folds_file)
    rows = join(images, folds)
    inputs = read_probe_inputs(rows, ImageSource(root, pixels), console("audit"))
    embeddings = None
    if audit.use_embedding:
        from ffdi.features.compute import embed
        from ffdi.features.extractor import load_extractor

        name = params.split.embedding
        extractor = load_extractor(params.backbone(name), weights or params.weights_file(name))
        shown = replace(console("audit"), progress=console("audit embeddings").progress)
        embeddings = embed(rows, extractor, ImageSource(root, pixels), shown)
    drawn = {"bootstrap": Bootstrap(params.evaluate.bootstrap, params.seed), "embeddings": embeddings}
    turned = inverted_labels(rows, inputs, **drawn)
    findings = find_leaks(
        rows,
        phash_bits=audit.phash_bits,
        sketches=inputs.sketches,
        search_copies=audit.find_copies,
        embeddings=embeddings,
        min_cosine=audit.min_cosine,
        inverted=[turned] if turned else inverted_sides(rows, inputs, **drawn),
        console=console("audit"),
    )
    leaks, probes = leaks_among(findings), probe_shortcuts(rows, inputs, **drawn)
    summary = summarise(findings, rows, probes, dropped=int((folds["role"] == "dropped").sum()))
    write_metrics(summary, out, details, headline=of_audit)
    if findings_file:
        write_table(findings_file, findings_table(findings))
    for line in warnings(probes):
        say(f"audit: {line}")
    joins = settings_that_join(params.split.model_dump(), audit.model_dump())
    remedies = [
        f"; {said}" if (said := advise(some, rows, joins=joins, use_given=params.split.use_given)) else ""
        for some in (leaks, [f for f in findings if SOURCE_OVERLAP in f.checks])
    ]
    if summary["source_overlap"]:
        say(
            f"audit: WARNING: {summary['source_overlap']} pairs of a real photo and its forgery stand on two sides, with "
            f"{summary['source_overlap_test_share']:.1%} of the test images{remedies[1]}"
        )
    if leaks and audit.fail:
        first = leaks[0]
        listed = f"; all are in {findings_file}" if findings_file else ""
        raise LeakError(
            f"{len(leaks)} leaks, the first: {first.check} {first.path_a} {first.path_b} ({first.detail})"
            f"{listed}{remedies[0]}"
        )
    if ok:
        write_text(ok, tables_digest(images_file, folds_file))
    found = f"{len(leaks)} leaks in {len(rows)} images and {rows['group'].nunique()} groups"
    say(f"audit: {found}; {what_it_could_know(summary)}")


if __name__ == "__main__":
    main()
