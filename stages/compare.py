"""Compare every two recipes on the same test images."""

from pathlib import Path

import click

from ffdi.params.reading import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import say


@stage_command()
@click.option("--params", "params_file", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--folds", "folds_file", type=click.Path(path_type=Path), default=Path("data/folds.csv"))
@click.option("--plots", type=click.Path(path_type=Path), default=Path("metrics/plots"))
@click.option("--out", type=click.Path(path_type=Path), default=Path("metrics/summary.json"))
@click.option("--details", type=click.Path(path_type=Path), help="[default: details/ beside --out]")
@click.option("--table", type=click.Path(path_type=Path), default=Path("data/comparisons.csv"))
def main(params_file: Path, folds_file: Path, plots: Path, out: Path, details: Path | None, table: Path) -> None:
    """Compare every two recipes on the same test images."""
    params = read_params(params_file)
    from ffdi.bootstrap import Bootstrap
    from ffdi.evaluation.compare import NO_DIFFERENCE, compare, comparison_metrics, read_scores
    from ffdi.evaluation.headline import of_pairs, write_metrics
    from ffdi.intake.tables import read_folds, write_table

    labels, groups, scores = read_scores(plots, list(params.recipes), read_folds(folds_file))
    pairs = compare(labels, groups, scores, bootstrap=Bootstrap(params.evaluate.bootstrap, params.seed))
    write_table(table, pairs)
    write_metrics(comparison_metrics(pairs), out, details, headline=of_pairs)
    for pair in pairs.to_dict("records"):
        verdict = pair["verdict"]
        if verdict != NO_DIFFERENCE:
            verdict += f", p {pair['p_corrected']:.3f} corrected"
        interval = f"[{pair['low']:+.3f}, {pair['high']:+.3f}]"
        say(f"compare {pair['a']}, {pair['b']}: AUC {pair['difference']:+.3f} {interval}: {verdict}")


if __name__ == "__main__":
    main()
