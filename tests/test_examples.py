"""The examples run, and what they print holds: short runs in processes of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.append(str(EXAMPLES))

import does_it_help  # noqa: E402  # examples/ is on the path only now
import long_tail  # noqa: E402  # as above
import many_files  # noqa: E402  # as above
import tables  # noqa: E402  # as above

ONE_PER_FRAMEWORK = sorted(path.name for path in EXAMPLES.glob("digits_*.py"))
ON_SEVERAL = sorted(path.name for path in EXAMPLES.glob("ddp_*.py"))
QUICK = ("--steps", "200", "--seeds", "2")
RUNS = [(name, "", QUICK) for name in ONE_PER_FRAMEWORK if name != "digits_keras.py"]
RUNS += [("digits_keras.py", backend, QUICK) for backend in ("torch", "jax", "tensorflow")]
# Fashion-MNIST is a Debian package.  Where it is not installed there is nothing to run; what is said then is tested.
if long_tail.FASHION.exists():
    RUNS += [("digits_torch.py", "", ("--data", "fashion", "--steps", "100", "--seeds", "2"))]
# The rows of the table: ten recalls, then "value ±error" for macro recall, log loss and calibration error.
NAMES = ("cross-entropy", "focal, raw", "focal, recovered")
ROW = re.compile(rf"^  ({'|'.join(NAMES)}) +((?:\d+ +){{10}})" + r"([\d.]+) ±[\d.]+ *" * 3 + "$", re.M)


def run(name: str, backend: str, *arguments: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    if backend:
        environment["KERAS_BACKEND"] = backend
    command = [sys.executable, EXAMPLES / name, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


def check_table(printed: str) -> None:
    table = {row[1]: (row[2].split(), *map(float, row.groups()[2:])) for row in ROW.finditer(printed)}
    assert tuple(table) == NAMES, printed
    for recalls, macro, *_ in table.values():
        assert np.mean([int(r) for r in recalls]) == pytest.approx(macro, abs=0.6)
    plain, raw, recovered = table.values()
    assert plain[1] > 50  # something was learned: chance is 10
    assert recovered[:2] == raw[:2]  # with one alpha and one gamma the order of the classes is kept
    assert recovered[2] < 0.95 * raw[2]  # log loss
    assert recovered[3] < 0.5 * raw[3]  # calibration error
    assert re.search(r"^Focal loss (helped|hurt|bought nothing) here: .*\(95 % interval .*\)\.$", printed, re.M)
    assert f"from {raw[2]:.3f} to {recovered[2]:.3f}; cross-entropy has {plain[2]:.3f}." in printed


@pytest.mark.full
@pytest.mark.parametrize(("name", "backend", "arguments"), RUNS)
def test_recovered_probabilities_beat_raw_scores(name: str, backend: str, arguments: tuple[str, ...]) -> None:
    check_table(run(name, backend, *arguments))


def under_torchrun(processes: int, *command: str) -> str:
    """torchrun finds a free port itself."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    result = subprocess.run(
        [*torchrun, EXAMPLES / command[0], *command[1:]],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout


LIMIT = 400  # seconds, on a busy machine


@pytest.mark.full
def test_the_gradient_of_two_processes_with_and_without_a_group() -> None:
    printed = under_torchrun(2, "ddp_segmenter.py", "--steps", "81")
    found = re.findall(r"step +(\d+), positives (\d+) \+ (\d+): error without group= ([\d.]+), with it (\S+)", printed)
    assert [int(step) for step, *_ in found] == [0, 20, 40, 60, 80]
    assert [other == "0" for _, _, other, *_ in found] == [True, True, True, False, False]
    for _, one, _, without, within in found:
        assert int(one) > 100
        assert float(without) > 0.3
        assert float(within) < 1e-4  # in float32


@pytest.mark.full
def test_accelerate_finds_the_same_on_any_number_of_processes() -> None:
    alone, two = (under_torchrun(processes, "ddp_accelerate.py") for processes in (1, 2))
    assert alone == two
    losses = [float(loss) for loss in re.findall(r"loss of the last step ([\d.]+), weight", alone)]
    assert len(losses) == 3
    assert losses[0] > losses[1] > losses[2]


@pytest.mark.full
def test_lightning_finds_the_same_on_any_number_of_processes() -> None:
    alone, two = (run("ddp_lightning.py", "", "--devices", devices) for devices in ("1", "2"))
    lines = [line for line in alone.splitlines() if line.startswith(("epoch", "loss"))]
    assert len(lines) == 4
    assert lines == [line for line in two.splitlines() if line.startswith(("epoch", "loss"))]


@pytest.mark.full
@pytest.mark.parametrize("engine", ["lightgbm", "xgboost"])
def test_many_files(engine: str, tmp_path: Path) -> None:
    random, labels = np.random.default_rng(0), []
    for file in range(4):
        rows = pd.DataFrame({"a": random.normal(size=1500), "b": random.choice(["x", "y"], size=1500)})
        margins = 1.5 * rows.a + (rows.b == "y") - 4
        labels.append(random.random(1500) < 1 / (1 + np.exp(-margins)))
        rows.assign(rare=labels[-1]).to_parquet(tmp_path / f"{file}.parquet")
    printed = run("many_files.py", "", str(tmp_path), "--target", "rare", "--engine", engine, "--held-out", "1")
    assert "4,500 rows in 3 files; held out: 1; workers: 2" in printed
    assert f"prior {np.mean(labels[:3]):.4f}" in printed
    assert 3 < int(re.search(rf"{engine}: (\d+) rounds", printed)[1]) < 480
    losses = dict(re.findall(r"(raw focal|recovered): log loss ([\d.]+)", printed))
    assert float(losses["recovered"]) < 0.95 * float(losses["raw focal"]), printed
    precision = float(re.search(r"average precision, of both: ([\d.]+)", printed)[1])
    assert precision > 1.5 * np.mean(labels[3])


def test_the_flights_become_a_file_a_month(tmp_path: Path) -> None:
    many_files.write_months(tmp_path)
    months = [pd.read_parquet(file, columns=["month"]).month for file in sorted(tmp_path.iterdir())]
    assert [(month.nunique(), month[0]) for month in months] == [(1, number) for number in range(1, 13)]
    assert sum(map(len, months)) == 336_776


def test_fashion_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(long_tail, "FASHION", tmp_path)
    with pytest.raises(SystemExit, match="apt-get install dataset-fashion-mnist"):
        long_tail.read("fashion")


def test_every_example_is_short_and_listed() -> None:
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert len(ONE_PER_FRAMEWORK) == 4
    assert len(ON_SEVERAL) == 3
    for name in (*ONE_PER_FRAMEWORK, *ON_SEVERAL):
        assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) < 60
        assert f"`{name}`" in page


def test_the_tail_is_long_and_its_test_images_are_new_and_weighted_to_its_shares() -> None:
    data = long_tail.read("digits")(3)
    counts = np.bincount(data.train_y)
    assert counts.tolist() == [round(80 * 0.7**k) for k in range(10)]
    assert np.bincount(data.test_y).min() > 90
    weighted = np.bincount(data.test_y, data.weight)
    np.testing.assert_allclose(weighted / weighted.sum(), counts / counts.sum())
    assert not {row.tobytes() for row in data.train_x} & {row.tobytes() for row in data.test_x}


def test_measures_by_hand() -> None:
    labels, weight = np.array([0, 0, 1, 1]), np.array([3.0, 3.0, 1.0, 1.0])
    data = long_tail.Data(np.empty(0), labels, np.empty(0), labels, weight)
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]])
    recall_0, recall_1, macro, log_loss, error = long_tail.measures(probabilities, data)
    assert [recall_0, recall_1, macro] == [100, 50, 75]
    assert log_loss == pytest.approx(-(3 * np.log(0.9) + 3 * np.log(0.6) + np.log(0.3) + np.log(0.8)) / 8)
    assert error == pytest.approx((3 * 0.1 + 3 * 0.4 + 0.7 + 0.2) / 8)  # each sample is a bin: |sure - right|


@pytest.mark.parametrize(
    ("gain", "word"), [([2.0, 3.0, 4.0], "helped"), ([-2.0, -3.0, -4.0], "hurt"), ([-1.0, 3.0, 4.0], "bought nothing")]
)
def test_the_verdict_follows_from_the_numbers(gain: list[float], word: str) -> None:
    assert long_tail.verdict(np.array(gain)).startswith(f"Focal loss {word} here: ")


# -- does_it_help.py


def two_tables() -> list[tables.Table]:
    """Every 40th flight, and three classes with 20 rows in the rarest, under a name that the page speaks of."""
    flights = tables.flights()
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [500, 80, 20])
    features = (random.normal(size=(600, 3)) + labels[:, None]).astype(np.float32)
    thin = slice(None, None, 40)
    return [
        tables.Table("flights", flights.features[thin], flights.labels[thin], flights.order[thin]),
        tables.Table("census", features, labels),
    ]


def test_the_comparison_runs_and_its_page_says_what_its_csv_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("PAGE", "RESULTS"):
        monkeypatch.setattr(does_it_help, name, tmp_path / name)
    monkeypatch.setattr(does_it_help, "SEEDS_OF_SMALL", 2)
    does_it_help.run_all(two_tables(), tmp_path / "RESULTS", n_estimators=5)
    results = does_it_help.read(tmp_path / "RESULTS")
    assert {name: list(own) for name, own in results.items()} == dict.fromkeys(results, does_it_help.METHODS)
    for own in results.values():
        for name in ("balanced", "gamma 1", "gamma 2"):
            raw, recovered = own[f"{name}, raw"], own[f"{name}, recovered"]
            assert np.all(raw["rounds"] == recovered["rounds"])  # of one model
            assert np.all(raw["log_loss"] > recovered["log_loss"] + 0.02)
    for method in ("balanced", "gamma 1", "gamma 2"):  # two classes: recovery keeps the order of the rows
        precisions = [results["flights"][f"{method}, {kind}"]["average_precision"] for kind in ("raw", "recovered")]
        np.testing.assert_allclose(*precisions, rtol=1e-3)

    head, foot = f"# A page\n{does_it_help.START}", f"{does_it_help.END}\nits end"
    (tmp_path / "PAGE").write_text(head + foot, encoding="utf-8")
    assert does_it_help.main(["--check"]) == 1
    assert does_it_help.main(["--page"]) == 0
    assert does_it_help.main(["--check"]) == 0
    page = (tmp_path / "PAGE").read_text(encoding="utf-8")
    assert page.startswith(head)
    assert page.endswith(foot)
    assert page.count("- flights, gamma 2: **") == page.count("### flights: 8,420 rows, 2 classes, ") == 1
    csv = (tmp_path / "RESULTS").read_text(encoding="utf-8")
    (tmp_path / "RESULTS").write_text(csv.replace("census,600,3,20", "census,601,3,20"), encoding="utf-8")
    assert does_it_help.main(["--check"]) == 1


def test_splits_are_by_time_or_have_each_class_on_both_sides() -> None:
    flights, small = two_tables()
    tested = []
    for seed in range(does_it_help.SEEDS):
        train, test = does_it_help.split(flights, seed)
        assert flights.order[train].max() <= flights.order[test].min()
        assert len(train) == pytest.approx(5 * len(test), abs=5)
        assert np.all(np.diff(flights.order[train]) >= 0)  # so that the last rows are the latest
        tested.append(test)
        train, test = does_it_help.split(small, seed)
        assert np.array_equal(test, does_it_help.split(small, seed)[1])
        assert not set(train) & set(test)
        assert np.all(np.abs(np.bincount(small.labels[test]) - np.array([500, 80, 20]) / 3) < 1)
    assert len(np.unique(np.concatenate(tested))) == sum(map(len, tested))  # no flight is judged twice


def test_measures_of_two_classes_by_hand() -> None:
    labels, rare = np.array([0, 0, 0, 1]), np.array([0.1, 0.4, 0.2, 0.3])
    found = does_it_help.measures(labels, np.stack([1 - rare, rare], axis=1), np.array([0.75, 0.25]))
    assert found == pytest.approx(
        {
            "log_loss": -np.log([0.9, 0.6, 0.8, 0.3]).mean(),
            "brier": (0.01 + 0.16 + 0.04 + 0.49) / 4,
            "calibration_error": (0.1 + 0.4 + 0.2 + 0.7) / 4,  # each row is a bin
            "average_precision": 1 / 2,  # the only positive is second
            "recall": (1 + 0) / 2,
            "balanced_recall": (2 / 3 + 1) / 2,  # called rare from its prior, 0.25, on
        }
    )


def test_measures_of_three_classes_by_hand_leave_out_a_class_without_rows() -> None:
    labels = np.array([0, 0, 1])
    probabilities = np.array([[0.65, 0.05, 0.3], [0.2, 0.5, 0.3], [0.3, 0.6, 0.1]])
    found = does_it_help.measures(labels, probabilities, np.array([0.6, 0.3, 0.1]))
    assert found == pytest.approx(
        {
            "log_loss": -np.log([0.65, 0.2, 0.6]).mean(),
            "brier": (0.1225 + 0.0025 + 0.09 + 0.64 + 0.25 + 0.09 + 0.09 + 0.16 + 0.01) / 3 / 2,
            "calibration_error": ((0.35 + 0.8 + 0.3) / 3 + (0.05 + 0.5 + 0.4) / 3) / 2,
            "average_precision": ((1 + 2 / 3) / 2 + 1) / 2,
            "recall": (1 / 2 + 1) / 2,
            "balanced_recall": (0 + 1) / 2,  # the rows go to the third, third and second class
        }
    )


@pytest.mark.parametrize(
    ("metric", "differences", "word"),
    [
        ("log_loss", [-0.1, -0.11, -0.12], "helped"),
        ("log_loss", [0.1, 0.11, 0.12], "harmed"),
        ("average_precision", [0.1, 0.11, 0.12], "helped"),
        ("average_precision", [-0.1, -0.11, -0.12], "harmed"),
        ("average_precision", [-0.1, 0.11, 0.12], "no difference"),
        ("recall", [0.0, 0.0, 0.0], "no difference"),
    ],
)
def test_the_word_for_a_difference_follows_from_the_splits(metric: str, differences: list[float], word: str) -> None:
    rows = {"training_rows": np.full(3, 200.0), "test_rows": np.full(3, 100.0)}
    base = np.array([0.5, 0.3, 0.4])
    results = {does_it_help.BASE: {metric: base, **rows}, "gamma 2, raw": {metric: base + differences, **rows}}
    mean, error, found = does_it_help.against(results, "gamma 2, raw", metric)
    assert found == word
    assert mean == pytest.approx(np.mean(differences))
    assert error == pytest.approx(np.sqrt((1 / 3 + 1 / 2) * np.var(differences, ddof=1)))


def test_beyond_noise_is_beyond_the_interval_of_students_t() -> None:
    """5 splits, 1/5 + 1/2: the interval of 95 % is 2.776 standard errors wide to each side."""
    rows = {"training_rows": np.full(5, 2.0), "test_rows": np.full(5, 1.0)}
    spread = np.array([-1.0, -1.0, 0.0, 1.0, 1.0])  # its variance is 1
    for mean, word in ((2.77 * 0.7**0.5, "no difference"), (2.78 * 0.7**0.5, "harmed")):
        results = {does_it_help.BASE: {"brier": np.zeros(5), **rows}, "balanced, raw": {"brier": spread + mean, **rows}}
        assert does_it_help.against(results, "balanced, raw", "brier")[2] == word


def test_what_the_page_says_in_words_is_true_of_its_numbers() -> None:
    """Break one of these by another run, and the head of docs/does-it-help.md must be written anew."""
    results = does_it_help.read(does_it_help.RESULTS)
    base, metrics = does_it_help.BASE, list(does_it_help.TITLES)

    def words(method: str, metric: str) -> dict[str, str]:
        return {name: does_it_help.against(own, method, metric)[2] for name, own in results.items()}

    def means(method: str, metric: str) -> dict[str, float]:
        return {name: own[method][metric].mean() for name, own in results.items()}

    def count(method: str, metric: str, word: str) -> int:
        return list(words(method, metric).values()).count(word)

    assert len(results) == 7
    assert {len(own[base]["seed"]) for own in results.values()} == {5, 10}
    focal = [method for method in does_it_help.METHODS if method.startswith("gamma")]
    assert all(count(method, metric, "helped") == 0 for method in focal for metric in metrics)
    assert (count("gamma 2, raw", "log_loss", "harmed"), count("gamma 1, raw", "log_loss", "harmed")) == (6, 5)
    assert round(means("gamma 2, raw", "log_loss")["census"], 3) == 0.186
    assert round(means(base, "log_loss")["census"], 3) == 0.114
    for method, percent in (("gamma 1, recovered", 0.3), ("gamma 2, recovered", 0.5)):
        harmed = {name for name, word in words(method, "log_loss").items() if word != "no difference"}
        assert harmed == {"fars"}
        ratio = means(method, "log_loss")["fars"] / means(base, "log_loss")["fars"]
        assert round(100 * (ratio - 1), 1) == percent
        assert count(method, "average_precision", "no difference") == 7
    assert count("gamma 2, recovered", "calibration_error", "harmed") == 2
    assert words("gamma 2, recovered", "calibration_error")["census"] == "harmed"
    errors = [means(method, "calibration_error")["census"] for method in ("gamma 2, recovered", base)]
    assert np.round(errors, 4).tolist() == [0.0025, 0.0016]
    assert count("balanced, raw", "recall", "helped") == 5
    assert count("balanced, recovered", "balanced_recall", "no difference") == 7
    ahead = [results[t][base]["balanced_recall"].mean() > own for t, own in means("balanced, raw", "recall").items()]
    assert sum(ahead) == 6
    worst = [max(does_it_help.METHODS, key=lambda method: own[method]["log_loss"].mean()) for own in results.values()]
    assert worst.count("balanced, raw") == 6
    assert count("balanced, recovered", "log_loss", "harmed") == 3
    lost = results["flights"]["gamma 1, raw"]["log_loss"] > results["flights"][base]["log_loss"]
    assert lost.tolist() == [True] * 4 + [False]
    assert words("gamma 1, raw", "log_loss")["flights"] == "no difference"
    shuttle = means("gamma 2, raw", "log_loss")["Shuttle"] / means(base, "log_loss")["Shuttle"]
    assert round(shuttle) == 8
    assert words("gamma 2, raw", "log_loss")["Shuttle"] == "no difference"

    times = [(own[method]["seconds"] / own[base]["seconds"]).mean() for own in results.values() for method in focal]
    assert np.round([min(times), max(times)], 2).tolist() == [0.82, 1.64]

    flights = tables.flights()
    shares = [[flights.labels[part].mean() for part in does_it_help.split(flights, seed)] for seed in range(5)]
    assert np.round(100 * np.array(shares[4]), 1).tolist() == [2.0, 3.2]
    assert all(test < train for train, test in shares[:4])
