"""Prove that nothing leaks, or fail; measure the data's own shortcuts."""

from pathlib import Path
from typing import Any

from ffdi.params.paths import unpacked_root, weights_file
from ffdi.params.reading import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console
from ffdi.stagekit.options import DETAILS, FOLDS, IMAGES, PARAMS, ROOT, WEIGHTS, path

OUT, FINDINGS = path("--out", default="metrics/audit.json"), path("--findings", "findings_file")


@stage_command(PARAMS, ROOT, WEIGHTS, IMAGES, FOLDS, OUT, DETAILS, FINDINGS, path("--ok"))
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
    from ffdi.intake.auditing.audit import audit_images
    from ffdi.intake.decoding.images import ImageSource
    from ffdi.intake.tables import read_folds, read_images, tables_digest, write_table

    settings, split = params.audit, params.split
    stage, bootstrap = console("audit"), Bootstrap(params.evaluate.bootstrap, params.seed)
    source = ImageSource(unpacked_root(params.data, root), params.data.max_pixels)
    if ok:
        ok.unlink(missing_ok=True)

    def embed(rows: Any) -> Any:
        from ffdi.features.compute import embed_with

        name, report = split.embedding, console("audit", bar="audit embeddings")
        return embed_with(params.backbone(name), weights or weights_file(name), rows, source, report)

    audit = audit_images(read_images(images_file), read_folds(folds_file), source, settings, bootstrap, embed, stage)
    write_metrics(audit.summary, out, details, headline=of_audit)
    if findings_file:
        write_table(findings_file, audit.table())
    for line in audit.warnings(split):
        stage.say(line)
    audit.refuse_leaks(split, findings_file)
    if ok:
        write_text(ok, tables_digest(images_file, folds_file))
    stage.say(audit.verdict())


if __name__ == "__main__":
    main()
