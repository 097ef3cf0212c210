"""Compare every two recipes or ensembles on the same test images."""

from pathlib import Path

from ffdi.params.reading import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import say
from ffdi.stagekit.options import DETAILS, FOLDS, PARAMS, path


@stage_command(
    *(PARAMS, FOLDS, path("--plots", default="metrics/plots"), path("--out", default="metrics/summary.json"), DETAILS),
    path("--table", default="data/comparisons.csv"),
)
def main(params_file: Path, folds_file: Path, plots: Path, out: Path, details: Path | None, table: Path) -> None:
    """Compare every two recipes or ensembles on the same test images."""
    params = read_params(params_file)
    from ffdi.evaluation.compare import (
        compare,
        comparison_lines,
        comparison_metrics,
        read_scores,
        read_sweeps,
        read_units,
    )
    from ffdi.evaluation.headline import of_pairs, write_metrics
    from ffdi.intake.tables import read_folds, write_table

    names, folds = [*params.recipes, *params.ensembles], read_folds(folds_file)
    labels, groups, scores = read_scores(plots, names, folds)
    sweeps, units = read_sweeps(plots, names, folds), read_units(plots, scores, folds, params.evaluate.units)
    pairs = compare(labels, groups, scores, units=units, sweeps=sweeps, bootstrap=params.bootstrap)
    write_table(table, pairs)
    write_metrics(comparison_metrics(pairs), out, details, headline=of_pairs)
    for line in comparison_lines(pairs):
        say(f"compare {line}")


if __name__ == "__main__":
    main()
