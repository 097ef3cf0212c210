"""Prove that nothing leaks, or fail; measure the data's own shortcuts."""

from pathlib import Path

from ffdi.params.paths import image_source, weights_file
from ffdi.params.reading import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console
from ffdi.stagekit.options import DETAILS, FOLDS, IMAGES, PARAMS, ROOT, WEIGHTS, path

OUT = path("--out", default="metrics/audit.json")


@stage_command(PARAMS, ROOT, WEIGHTS, IMAGES, FOLDS, OUT, DETAILS, path("--findings"), path("--ok"))
def main(
    params_file: Path,
    root: Path | str | None,
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
    from ffdi.evaluation.headline import of_audit, write_metrics
    from ffdi.features.compute import Embedder
    from ffdi.files import write_text
    from ffdi.intake.auditing.audit import audit_images
    from ffdi.intake.splitting.leave_one_out import with_held_values
    from ffdi.intake.tables import read_folds, read_images, tables_digest, write_table

    log, split = console("audit"), params.split
    source = image_source(params.data, root)
    if ok:
        ok.unlink(missing_ok=True)

    backbone = params.backbones[split.embedding]
    embed = Embedder(backbone, weights or weights_file(backbone.name), source, console("audit", bar="audit embeddings"))
    images, folds = with_held_values(read_images(images_file), split), read_folds(folds_file)
    audit = audit_images(images, folds, source, params.audit, params.bootstrap, embed, log)
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
