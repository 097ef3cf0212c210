"""Prove that nothing leaks, or fail; measure the data's own shortcuts."""

from functools import partial
from pathlib import Path

import click

from ffdi.cli import bar, say, stage_command
from ffdi.errors import LeakError
from ffdi.params import read_params


@stage_command
@click.option("--params", "params_file", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--root", type=click.Path(path_type=Path))
@click.option("--weights", type=click.Path(path_type=Path))
@click.option("--images", "images_file", type=click.Path(path_type=Path), default=Path("data/images.csv"))
@click.option("--folds", "folds_file", type=click.Path(path_type=Path), default=Path("data/folds.csv"))
@click.option("--out", type=click.Path(path_type=Path), default=Path("metrics/audit.json"))
@click.option("--findings", "findings_file", type=click.Path(path_type=Path))
@click.option("--ok", type=click.Path(path_type=Path))
def main(
    params_file: Path,
    root: Path | None,
    weights: Path | None,
    images_file: Path,
    folds_file: Path,
    out: Path,
    findings_file: Path | None,
    ok: Path | None,
) -> None:
    """Prove that nothing leaks, or fail; measure the data's own shortcuts."""
    params = read_params(params_file)
    from ffdi.files import write_json, write_text
    from ffdi.intake.audit import find_leaks, findings_table, probe_shortcuts, summarise
    from ffdi.intake.tables import join, read_folds, read_images, tables_digest, write_table

    audit, root, pixels = params.audit, params.root(root), params.data.max_pixels
    if ok:
        ok.unlink(missing_ok=True)
    images = read_images(images_file)
    rows = join(images, read_folds(folds_file))
    embeddings = None
    if audit.use_embedding:
        from ffdi.features.extract import embed, load_prefix

        name = params.split.embedding
        prefix = load_prefix(params.backbone(name), weights or params.weights_file(name))
        embeddings = embed(rows, root=root, prefix=prefix, max_pixels=pixels, progress=bar("audit embeddings"))
    findings = find_leaks(rows, phash_bits=audit.phash_bits, embeddings=embeddings, min_cosine=audit.min_cosine)
    probes = probe_shortcuts(
        rows,
        root,
        max_pixels=pixels,
        resamples=params.evaluate.bootstrap,
        seed=params.seed,
        embeddings=embeddings,
        progress=partial(bar("audit"), total=len(rows)),
    )
    write_json(out, summarise(findings, rows, probes))
    if findings_file:
        write_table(findings_file, findings_table(findings))
    for name in ("file_facts", "thumbnail", "nearest_neighbour"):
        if (value := probes[f"probe_{name}_auc"]) is not None:
            low, high = probes[f"probe_{name}_auc_low"], probes[f"probe_{name}_auc_high"]
            say(
                f"audit: {name.replace('_', ' ')} alone tells fake from real at AUC {value:.3f} [{low:.3f}, {high:.3f}]"
            )
    if findings and audit.fail:
        first = findings[0]
        listed = f"; all are in {findings_file}" if findings_file else ""
        raise LeakError(
            f"{len(findings)} leaks, the first: {first.check} {first.path_a} {first.path_b} ({first.detail}){listed}"
        )
    if ok:
        write_text(ok, tables_digest(images_file, folds_file))
    say(f"audit: {len(findings)} leaks in {len(rows)} images and {rows['group'].nunique()} groups")


if __name__ == "__main__":
    main()
