"""Scores of a test set as Parquet: written, compared and reported as those of a csv."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ffdi.errors import InputError
from ffdi.evaluation.compare import read_scores
from ffdi.evaluation.evaluate import Evaluation
from ffdi.evaluation.results import Results


def evaluation(seed: int) -> Evaluation:
    scores = np.random.default_rng(seed).random(9)
    table = pd.DataFrame({"image_id": [f"a{i:063x}" for i in range(9)], "label": [0, 1, 1] * 3, "score": scores})
    return Evaluation({}, {"scores": table.iloc[::-1], "folds": pd.DataFrame({"fold": [0], "auc": [0.5]})})


def folds() -> pd.DataFrame:
    ids = [f"a{i:063x}" for i in range(9)]
    return pd.DataFrame({"image_id": ids, "group": ids, "role": "test"})


def test_scores_are_compared_from_either(tmp_path: Path) -> None:
    evaluation(0).write_plots(tmp_path / "a/test")
    evaluation(0).write_plots(tmp_path / "b/test", ".parquet")
    assert sorted(file.name for file in (tmp_path / "b/test").iterdir()) == ["folds.csv", "scores.parquet"]
    labels, _, scores = read_scores(tmp_path, ["a", "b"], folds())
    assert labels.tolist() == [0, 1, 1] * 3 and np.array_equal(scores["a"], scores["b"])
    results = Results({}, {}, {}, {}, pd.DataFrame(), (), {}, tmp_path, (), {})
    pd.testing.assert_frame_equal(results.table("a", "scores"), results.table("b", "scores"))


def test_what_an_earlier_run_wrote_in_the_other_format_is_deleted(tmp_path: Path) -> None:
    for tables in (".csv", ".parquet", ".csv"):
        evaluation(1).write_plots(tmp_path / "a/test", tables)
        assert [file.suffix for file in (tmp_path / "a/test").glob("scores.*")] == [tables]


def test_two_tables_of_scores_are_refused(tmp_path: Path) -> None:
    evaluation(1).write_plots(tmp_path / "a/test")
    (tmp_path / "a/test/scores.parquet").touch()
    with pytest.raises(InputError, match=r"scores\.csv and scores\.parquet: both are there"):
        read_scores(tmp_path, ["a"], folds())
