"""The rooms of the command line, one by one: columns, splits, metrics, the verdict, files."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, f1_score, log_loss

from parfocal.app import columns, files, metrics, splits, verdict
from parfocal.app.errors import BadInput, counted, listed, nearest
from parfocal.app.fitting import Trial, choose, threshold_from_folds
from parfocal.app.options import Metric
from parfocal.app.sample import Sample, Target
from parfocal.app.training import Candidate, FoldFit, Rows, candidates


def text(*values: str | None) -> pl.Series:
    return pl.Series("c", values, dtype=pl.String)


# -- columns ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "kind", "date_format"),
    [
        (["1", " 2.5", "NA", "1e3", None, "inf", "-.5"], "number", None),
        (["0", "1"], "number", None),
        (["true", "FALSE", "", "True"], "boolean", None),
        (["2013-01-31", "N/A"], "date", "%Y-%m-%d"),
        (["2013/01/31"], "date", "%Y/%m/%d"),
        (["31.1.2013"], "date", "%d.%m.%Y"),
        (["1/2/2013", "31/1/2013"], "date", "%d/%m/%Y"),
        (["1/2/2013", "1/31/2013"], "date", "%m/%d/%Y"),
        (["2013-01-31 05:00", None], "datetime", "%Y-%m-%d %H:%M"),
        (["2013-01-31T05:00:00.5", "2013-01-31T05:00:00"], "datetime", "%Y-%m-%dT%H:%M:%S%.f"),
        (["2013-01-31T05:00:00Z"], "datetime", "%Y-%m-%dT%H:%M:%S%.f%#z"),
        (["31/12/13"], "category", None),  # the year 31 or 13?
        (["1", "2", "three"], "category", None),
        (["true", "perhaps"], "category", None),
        (["2013-01-31", "soon"], "category", None),
    ],
)
def test_text_is_taken_for_what_all_of_its_values_are(
    values: list[str | None], kind: str, date_format: str | None
) -> None:
    column = columns.recognise(text(*values), as_text=True)
    assert column is not None
    assert (column.kind, column.date_format) == (kind, date_format)


@pytest.mark.parametrize(
    ("values", "kind", "numbers"),
    [
        (pl.Series("c", [1, None], dtype=pl.Int8), "number", [[1, np.nan]]),
        (pl.Series("c", [0.5, float("nan"), float("inf")]), "number", [[0.5, np.nan, np.nan]]),
        (pl.Series("c", ["1.50"]).cast(pl.Decimal(9, 2)), "number", [[1.5]]),
        (pl.Series("c", [dt.timedelta(minutes=1, milliseconds=500)]), "number", [[60.5]]),
        (pl.Series("c", [dt.time(0, 1, 1)]), "number", [[61]]),
        (pl.Series("c", [True, None, False]), "boolean", [[1, np.nan, 0]]),
        (pl.Series("c", [dt.date(1970, 2, 2)]), "date", [[2], [1], [32]]),
        (pl.Series("c", [dt.datetime(1970, 1, 2, 12)]), "datetime", [[1], [5], [12], [1.5]]),
        (pl.Series("c", ["b", "a", "b", None], dtype=pl.Categorical), "category", [[0, 1, 0, np.nan]]),
        (pl.Series("c", ["b", "a", "a"], dtype=pl.Enum(["b", "a"])), "category", [[1, 0, 0]]),
    ],
)
def test_typed_columns_become_numbers(values: pl.Series, kind: str, numbers: list[list[float]]) -> None:
    column = columns.recognise(values, as_text=False)
    assert column is not None
    assert column.kind == kind
    converted = columns.convert(values, column)
    assert converted.clean
    column = columns.with_categories(column, converted.values) if kind == "category" else column
    np.testing.assert_allclose(columns.encode(converted.values, column), numbers, rtol=1e-15)


@pytest.mark.parametrize("values", [pl.Series("c", [[1]]), pl.Series("c", [{"a": 1}]), pl.Series("c", [b"x"])])
def test_types_that_no_model_can_use_are_not_recognised(values: pl.Series) -> None:
    assert columns.recognise(values, as_text=False) is None


def test_zones_tell_the_hour_that_the_clock_showed() -> None:
    noon = pl.Series("c", [dt.datetime(2020, 7, 1, 12)]).dt.replace_time_zone("America/New_York")
    column = columns.recognise(noon, as_text=False)
    assert column is not None
    hour = column.parts.index("hour")
    for same in (noon, noon.dt.convert_time_zone("UTC"), text("2020-07-01T16:00:00Z")):
        assert columns.encode(columns.convert(same, column).values, column)[hour] == 12


def test_values_of_another_kind_are_reported() -> None:
    number = columns.Column("c", "number")
    assert columns.convert(text("1", "two", "NA"), number).wrong.to_list() == ["two"]
    assert columns.convert(pl.Series("c", [0, 1, 2]), columns.Column("c", "boolean")).wrong.to_list() == [2]
    assert columns.convert(text("2020-01-01", "1"), columns.Column("c", "date")).wrong.to_list() == ["1"]


def test_categories_are_the_most_frequent_and_the_rest_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MOST_CATEGORIES", 2)
    values = text("b", "a", "c", "b", "a", None)
    column = columns.with_categories(columns.Column("c", "category"), values)
    assert column.categories == ("a", "b")
    np.testing.assert_array_equal(columns.encode(values, column)[0], [1, 0, np.nan, 1, 0, np.nan])
    assert columns.count_unknown(values, column) == 1


def test_dates_are_read_as_in_training() -> None:
    column = columns.recognise(text("1/2/2013", "31/12/2013"), as_text=True)
    assert column is not None
    months = columns.encode(columns.convert(text("3/4/2013"), column).values, column)[0]
    assert months == [4]  # the 3rd of April, though March 4th would do for this chunk too
    assert columns.convert(text("4/31/2013"), column).wrong.to_list() == ["4/31/2013"]


def test_a_category_may_be_called_na() -> None:
    column = columns.Column("c", "category", categories=("NA", "EU"))  # from Parquet, where NA is a text
    assert columns.convert(text("NA", "EU", "null"), column).values.to_list() == ["NA", "EU", None]


# -- splits ----------------------------------------------------------------------------------------


def test_split_by_time_rolls_forward_and_never_splits_a_time() -> None:
    generator = np.random.default_rng(1)
    times = generator.integers(0, 40, size=1000)  # unordered, with many ties
    labels = (generator.random(1000) < 0.3).astype(float)
    split = splits.split_by_time(times, labels)
    assert len(split.folds) == 3
    for fold in split.folds:
        assert times[fold.training].max() < times[fold.validation].min()
    first, second, third = split.folds
    np.testing.assert_array_equal(second.training, np.concatenate([first.training, first.validation]))
    np.testing.assert_array_equal(third.training, np.concatenate([second.training, second.validation]))
    np.testing.assert_array_equal(split.training, np.concatenate([third.training, third.validation]))
    assert times[split.training].max() < times[split.test].min()
    assert sorted([*split.training, *split.test]) == list(range(1000))
    assert 0.22 < len(split.test) / 1000 < 0.28
    assert (np.diff(times[split.test]) >= 0).all()


def test_split_by_time_says_which_part_lacks_a_class() -> None:
    times = np.arange(400)
    with pytest.raises(BadInput, match=r"final test .* no positive row"):
        splits.split_by_time(times, (times % 10 == 0) & (times < 280))
    with pytest.raises(BadInput, match=r"block 2 of 4 .* no negative row"):
        splits.split_by_time(times, (times % 10 == 0) | ((times >= 75) & (times < 150)))
    with pytest.raises(BadInput, match="block 1 of 4"):
        splits.split_by_time(times // 399, times % 10 == 0)
    with pytest.raises(BadInput, match="all times are equal"):
        splits.split_by_time(np.zeros(400), times % 10 == 0)


def test_split_by_class_keeps_shares_and_the_final_test_apart() -> None:
    labels = (np.arange(500) % 10 == 0).astype(float)
    split = splits.split_by_class(labels, seed=3)
    assert labels[split.test].sum() == 10
    assert len(split.test) == 100
    assert not set(split.test) & set(split.training)
    assert sorted(np.concatenate([fold.validation for fold in split.folds])) == sorted(split.training)
    for fold in split.folds:
        assert labels[fold.validation].sum() == 8
        assert not set(fold.training) & set(fold.validation)
    np.testing.assert_array_equal(split.test, splits.split_by_class(labels, seed=3).test)
    assert (split.test != splits.split_by_class(labels, seed=4).test).any()


# -- metrics ---------------------------------------------------------------------------------------


def test_calibration_error_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.array([0, 0, 1, 1.0])
    probabilities = np.array([0.1, 0.3, 0.6, 0.6])
    monkeypatch.setattr(metrics.equal_count_bins, "__defaults__", (2,))
    # Bins {0.1, 0.3} and {0.6, 0.6}: |0.2 - 0| and |0.6 - 1|, half of the rows each.
    assert metrics.calibration_error(labels, probabilities) == pytest.approx((0.2 + 0.4) / 2)
    # With weights 3, 1, 1, 1: |0.15 - 0| in 4 of 6, |0.6 - 1| in 2 of 6.
    weights = np.array([3, 1, 1, 1.0])
    assert metrics.calibration_error(labels, probabilities, weights) == pytest.approx((0.15 * 4 + 0.4 * 2) / 6)


def test_bins_hold_equally_many_rows_and_equal_probabilities_share_one() -> None:
    generator = np.random.default_rng(0)
    counts = np.bincount(metrics.equal_count_bins(generator.random(1500)))
    assert (counts == 100).all()
    tied = generator.choice([0.1, 0.2, 0.3], size=1500)
    assert len(set(zip(tied, metrics.equal_count_bins(tied), strict=True))) == 3


@pytest.mark.parametrize("ties", [False, True])
def test_bootstrap_metrics_are_those_of_scikit_learn(ties: bool) -> None:
    generator = np.random.default_rng(2)
    labels = (generator.random(300) < 0.2).astype(float)
    probabilities = generator.random(300).round(1 if ties else 17) * 0.98 + 0.01
    weights = generator.integers(0, 4, size=300).astype(float)
    references = {
        Metric.average_precision: average_precision_score,
        Metric.log_loss: log_loss,
        Metric.brier: brier_score_loss,
    }
    for metric, reference in references.items():
        ours = metrics.weighted_scorer(metric, labels, probabilities)(weights)
        assert ours == pytest.approx(reference(labels, probabilities, sample_weight=weights), rel=1e-12)
        assert ours == pytest.approx(metrics.score(metric, labels, probabilities, weights), rel=1e-12)


def test_threshold_has_the_best_f1() -> None:
    generator = np.random.default_rng(4)
    labels = (generator.random(200) < 0.3).astype(float)
    probabilities = np.clip(labels * 0.2 + generator.random(200), 0, 1)
    threshold = metrics.best_f1_threshold(labels, probabilities)
    reached = f1_score(labels, probabilities >= threshold)
    assert reached == pytest.approx(max(f1_score(labels, probabilities >= p) for p in probabilities))


def test_threshold_pairs_each_fold_with_its_own_rows() -> None:
    labels = np.array([0, 0, 0, 1, 1, 0, 1, 0.0])
    rows = Rows(np.zeros((8, 1)), labels, None, [])
    folds = tuple(splits.Fold(np.array([6, 7]), np.array(part)) for part in ([3, 0], [5, 4]))
    split = splits.Split(folds, np.arange(6), np.array([6, 7]), by_time=False)
    fits = [
        FoldFit(Candidate(0, 0.5), fold, 1, np.array(probabilities), {}, {})
        for fold, probabilities in enumerate([[0.7, 0.2], [0.6, 0.65]])
    ]
    # Labels 1, 0, 0, 1 with 0.7, 0.2, 0.6, 0.65: all is found and nothing else from 0.65 on.
    assert threshold_from_folds(Trial(Candidate(0, 0.5), fits), rows, split) == 0.65


def test_winner_has_the_best_mean_and_of_equals_the_first_is_taken() -> None:
    def trial(gamma: float, *values: float) -> Trial:
        scores = [{"average_precision": value, "log_loss": value} for value in values]
        fits = [FoldFit(Candidate(gamma, 0.5), 0, 1, np.empty(0), {}, of_fold) for of_fold in scores]
        return Trial(Candidate(gamma, 0.5), fits)

    trials = [trial(0, 0.1, 0.3), trial(1, 0.3, 0.5), trial(2, 0.5, 0.3)]
    assert choose(trials, Metric.average_precision) is trials[1]
    assert choose(trials, Metric.log_loss) is trials[0]


# -- verdict ---------------------------------------------------------------------------------------


def comparison(differences: list[float], low: float, high: float, metric: Metric) -> verdict.Comparison:
    winner = "focal" if metric.sign * sum(differences) > 0 else "cross-entropy"
    return verdict.Comparison(metric, "focal", winner, np.array(differences), (low + high) / 2, (low, high))


@pytest.mark.parametrize(
    ("metric", "differences", "interval", "says"),
    [
        (Metric.average_precision, [0.010, 0.011, 0.012], (0.001, 0.02), "by more than noise"),
        (Metric.average_precision, [0.010, 0.011, 0.012], (-0.001, 0.02), "does not beat"),  # test in doubt
        (Metric.average_precision, [0.00, 0.03, 0.00], (0.001, 0.02), "does not beat"),  # folds in doubt
        (Metric.average_precision, [0.010, 0.011, 0.012], (-0.02, -0.001), "does not beat"),  # test against it
        (Metric.average_precision, [-0.01, -0.01, -0.02], (0.001, 0.02), "Cross-entropy won"),
        (Metric.average_precision, [0.0, 0.0, 0.0], (0.0, 0.0), "Cross-entropy won"),
        (Metric.log_loss, [-0.010, -0.011, -0.012], (-0.02, -0.001), "by more than noise"),
        (Metric.log_loss, [-0.010, -0.011, -0.012], (0.001, 0.02), "does not beat"),
        (Metric.brier, [0.010, 0.011, 0.012], (0.001, 0.02), "Cross-entropy won"),
    ],
)
def test_verdict(metric: Metric, differences: list[float], interval: tuple[float, float], says: str) -> None:
    sentence = comparison(differences, *interval, metric).sentence
    assert says in sentence
    assert ("does not" in sentence) == (says == "does not beat")
    assert ("less is better" in sentence) == (metric is not Metric.average_precision)


def test_verdict_of_a_focal_loss_beside_another_winner() -> None:
    beside = verdict.Comparison(
        Metric.brier, "focal", "balanced cross-entropy", np.array([1e-6, -2e-6]), 1e-6, (-3e-6, 4e-6)
    )
    assert beside.sentence.startswith("The best focal loss, focal, does not beat cross-entropy by more than noise")
    assert "+0.0000 " not in beside.sentence  # small differences keep two digits
    winner = verdict.Comparison(Metric.brier, "focal", "focal", np.array([-0.01, -0.03]), 0.01, (-0.01, 0.02))
    assert winner.sentence.endswith("so it was saved; cross-entropy would do as well.")


def test_features_that_share_a_name_are_told_apart() -> None:
    frame = {
        "when month": pl.Series(["a", "b"]),
        "when": pl.Series([dt.date(2020, 1, 1), dt.date(2020, 2, 1)]),
        "colour ": pl.Series(["red", "blue"]),
    }
    found = tuple(columns.recognise(values.rename(name), as_text=False) for name, values in frame.items())
    target = Target("y", "1", "0", 0, 0, False)
    sample = Sample(target, np.empty(0), None, None, {}, found, {}, [])
    assert sample.categorical == [0, 4]


def test_standard_error_by_hand() -> None:
    mean, error = verdict.mean_and_error(np.array([1.0, 2.0, 6.0]))
    assert mean == 3
    assert error == pytest.approx(np.sqrt((4 + 1 + 9) / 2 / 3))


def test_bootstrap_interval_is_that_of_a_mean() -> None:
    # The Brier score is a mean of rows, so its standard error is known.
    generator = np.random.default_rng(5)
    labels = np.ones(4000)
    baseline = np.full(4000, 0.5)
    rival = np.where(generator.random(4000) < 0.5, 0.4, 0.7)
    rows = np.arange(4000)
    low, high = verdict.bootstrap_interval(Metric.brier, labels, rival, baseline, None, rows, seed=0)
    differences = (rival - 1) ** 2 - 0.25
    mean, error = verdict.mean_and_error(differences)
    assert low == pytest.approx(mean - 1.96 * error, abs=0.4 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.4 * error)
    again = verdict.bootstrap_interval(Metric.brier, labels, rival, baseline, None, rows, seed=0)
    assert again == (low, high)


def test_blocks_widen_the_interval_where_neighbours_agree() -> None:
    labels = np.ones(5000)
    rival = np.where(np.arange(5000) // 100 % 2, 0.4, 0.7)  # storms of 100 rows
    baseline = np.full(5000, 0.5)
    widths = []
    for by_time in (False, True):
        blocks = verdict.resampling_blocks(5000, by_time)
        low, high = verdict.bootstrap_interval(Metric.brier, labels, rival, baseline, None, blocks, seed=0)
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0] * 10, rel=0.3)  # sqrt(5000 rows / 50 blocks)


# -- candidates, files, messages -------------------------------------------------------------------


def test_six_candidates_by_default_and_none_twice() -> None:
    tried = candidates([1, 2], [0.25, 0.5])
    assert [candidate.name for candidate in tried[:3]] == [
        "cross-entropy",
        "balanced cross-entropy",
        "focal (gamma 1, alpha 0.25)",
    ]
    assert len(tried) == 6
    assert len(candidates([0, 0], [0.5, 0.5])) == 2
    assert Candidate(0, None).loss(prior=0.1).alpha == pytest.approx(0.9)


def test_staged_folder_keeps_the_old_one_until_the_new_one_stands(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").touch()

    def replace(fails: bool) -> None:
        with files.staged(out) as new:
            new.mkdir()
            (new / "new").touch()
            assert [path.name for path in out.iterdir()] == ["old"]
            if fails:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace(fails=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "old"]
    replace(fails=False)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "new"]


def test_staged_restores_the_old_folder_if_the_last_rename_fails(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").touch()
    with pytest.raises(OSError, match="No such file"), files.staged(out):
        pass  # nothing was written, so there is nothing to rename
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "old"]


def test_messages() -> None:
    assert listed("abc", shown=2) == "a, b and 1 more"
    assert counted(1, "row") == "1 row"
    assert counted(2000, "row") == "2,000 rows"
    assert nearest("Canceled", ["cancelled", "x"]) == "did you mean 'cancelled'?"
    assert nearest("q", ["cancelled", "x"]) == "it has cancelled, x"


def test_missing_extra_is_one_line() -> None:
    """`pip install parfocal` alone brings the command but not what it needs."""
    program = (
        "import sys\n"
        "sys.modules['polars'] = None\n"  # as if it were not installed
        "from parfocal.app import main\n"
        "sys.exit(main(['--version']))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert 'python -m pip install "parfocal[app]"' in run.stderr
