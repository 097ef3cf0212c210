"""Prove that nothing leaks, or fail; measure the data's own shortcuts."""

from pathlib import Path
from typing import Any

from ffdi.params.paths import unpacked_root, weights_file
from ffdi.params.reading import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console
from ffdi.stagekit.options import DETAILS, FOLDS, IMAGES, PARAMS, ROOT, WEIGHTS, path

OUT = path("--out", default="metrics/audit.json")


@stage_command(PARAMS, ROOT, WEIGHTS, IMAGES, FOLDS, OUT, DETAILS, path("--findings"), path("--ok"))
def main(
    params_file: Path,
    root: Path | None,
    weights: Path | None,
    images_file: Path,
    folds_file: Path,
    out: Path,
    details: Path | None,
    findings: Path | None,
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

    log, split, bootstrap = console("audit"), params.split, Bootstrap(params.evaluate.bootstrap, params.seed)
    source = ImageSource(unpacked_root(params.data, root), params.data.max_pixels)
    if ok:
        ok.unlink(missing_ok=True)

    def embed(rows: Any) -> Any:
        from ffdi.features.compute import embed_with

        name, report = split.embedding, console("audit", bar="audit embeddings")
        return embed_with(params.backbone(name), weights or weights_file(name), rows, source, report)

    audit = audit_images(read_images(images_file), read_folds(folds_file), source, params.audit, bootstrap, embed, log)
    write_metrics(audit.summary, out, details, headline=of_audit)
    if findings:
        write_table(findings, audit.table())
    for line in audit.warnings(split):
        log.say(line)
    audit.refuse_leaks(split, findings)
    if ok:
        write_text(ok, tables_digest(images_file, folds_file))
    log.say(audit.verdict())


if __name__ == "__main__":
    main()
