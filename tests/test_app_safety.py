"""Nothing of the user's is lost, and nothing of ours stays: outputs that appear meanwhile, kills, a full disk."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from app_saved import NEW, SAVED, contents, make_folder, score, wait_for, write_folder
from parfocal.app import main, predicting
from parfocal.app.errors import BadInput
from parfocal.app.model.saved import is_model_or_empty
from parfocal.app.tell import scores


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAVED / "fit-lightgbm", tmp_path / "model"))


# -- what appeared meanwhile -----------------------------------------------------------------------


def make_link(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("make", [make_folder, Path.mkdir, lambda path: path.write_text("precious"), make_link])
def test_a_folder_never_replaces_what_appeared(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    out = tmp_path / "model"
    with pytest.raises(BadInput, match=r"somebody else wrote there .* left as it is; .* is in .*model-2"):
        write_folder(out, meanwhile=lambda: make(out))
    assert contents(tmp_path / "model-2") == NEW
    assert "model.json" not in os.listdir(out) if out.is_dir() else (out.is_symlink() or out.read_text() == "precious")
    assert sorted(os.listdir(tmp_path)) == ["model", "model-2"]


@pytest.mark.parametrize("make", [make_folder, lambda path: path.write_text("precious"), make_link])
def test_a_forced_folder_neither(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    out = tmp_path / "model"
    write_folder(out)

    def swap() -> None:
        shutil.rmtree(out)
        make(out)

    with pytest.raises(BadInput, match="model-2"):
        write_folder(out, force=True, meanwhile=swap)
    assert contents(tmp_path / "model-2") == NEW
    assert sorted(os.listdir(tmp_path)) == ["model", "model-2"]


def test_a_forced_folder_replaces_models_and_empty_ones(tmp_path: Path) -> None:
    out = tmp_path / "model"
    out.mkdir()
    write_folder(out, force=True)
    (out / "report.png").write_text("old")
    write_folder(out, force=True)
    assert contents(tmp_path) == {"model/model.json": NEW["model.json"]}
    with pytest.raises(BadInput, match="model-2"):  # a file of the user's came into the model that is to be replaced
        write_folder(out, force=True, meanwhile=lambda: (out / "notes.txt").write_text("precious"))
    assert (out / "notes.txt").read_text() == "precious"


def test_a_file_that_comes_while_the_model_is_moved_away_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model"
    write_folder(out)
    rename = os.rename

    def slow_rename(source: Path, target: Path) -> None:
        if Path(source) == out:
            (out / "notes.txt").write_text("precious")
        rename(source, target)

    monkeypatch.setattr(os, "rename", slow_rename)
    with pytest.raises(BadInput, match="model-2"):
        write_folder(out, force=True)
    assert (out / "notes.txt").read_text() == "precious"
    assert contents(tmp_path / "model-2") == NEW


@pytest.mark.parametrize("name", ["report.png", "model.txt"])
def test_a_folder_by_the_name_of_a_file_of_ours_is_the_users(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path / "model")
    assert is_model_or_empty(tmp_path / "model")
    (tmp_path / "model" / name).mkdir()
    assert not is_model_or_empty(tmp_path / "model")


def test_a_link_to_a_model_is_replaced_and_the_model_stays(tmp_path: Path) -> None:
    write_folder(tmp_path / "real")
    (tmp_path / "model").symlink_to("real")
    write_folder(tmp_path / "model", force=True)
    assert sorted(os.listdir(tmp_path)) == ["model", "real"]
    assert not (tmp_path / "model").is_symlink()
    assert contents(tmp_path / "real") == NEW


@pytest.mark.parametrize("hard_links", [True, False])
@pytest.mark.parametrize("make", [make_folder, lambda path: path.write_text("precious"), make_link])
def test_scores_never_replace_what_appeared(
    model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], Any],
    hard_links: bool,
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    if not hard_links:
        monkeypatch.setattr(os, "link", refuse)
    out, write_parts = model.parent / "scores.csv", predicting.write_parts
    assert score(model, model.parent / "free.csv") == 0

    def meanwhile(*given: Any) -> None:
        write_parts(*given)
        make(out)

    monkeypatch.setattr(predicting, "write_parts", meanwhile)
    assert score(model, out) == 2
    said = capsys.readouterr()
    assert f"Wrote {out}" not in said.out
    assert said.err.count("\n") == 1
    assert "scores-2.csv" in said.err
    assert (model.parent / "scores-2.csv").read_text() == (model.parent / "free.csv").read_text()
    assert out.is_dir() or out.is_symlink() or out.read_text() == "precious"
    assert sorted(os.listdir(model.parent)) == ["free.csv", "model", "scores-2.csv", "scores.csv"]


def test_forced_scores_replace_a_file_and_no_folder(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = model.parent / "scores.csv"
    out.write_text("old")
    assert score(model, out, "--force") == 0
    assert out.read_text().startswith("probability,decision")
    write_parts = predicting.write_parts

    def meanwhile(*given: Any) -> None:
        write_parts(*given)
        out.unlink()
        make_folder(out)

    monkeypatch.setattr(predicting, "write_parts", meanwhile)
    assert score(model, out, "--force") == 2
    assert (out / "mine").read_text() == "precious"


RACE = """
import sys, time
from pathlib import Path
from parfocal.app import files
from parfocal.app.model.saved import is_model_or_empty
from parfocal.app.errors import BadInput
try:
    with files.staged(Path(sys.argv[1]), False, is_model_or_empty) as new:
        new.mkdir()
        (new / "who").write_text(sys.argv[2])
        Path(sys.argv[1] + ".ready" + sys.argv[2]).touch()
        while not Path(sys.argv[1] + ".go").exists():
            time.sleep(0.0002)
    print("Wrote")
except BadInput as error:
    print(error)
"""


@pytest.mark.full
def test_of_several_processes_one_writes(tmp_path: Path) -> None:
    out = tmp_path / "model"
    many = [
        subprocess.Popen([sys.executable, "-c", RACE, str(out), str(who)], stdout=subprocess.PIPE, text=True)
        for who in range(4)
    ]
    wait_for(lambda: len(list(tmp_path.glob("*.ready*"))) == 4)
    Path(f"{out}.go").touch()
    said = [process.communicate()[0] for process in many]
    assert sum(text == "Wrote\n" for text in said) == 1
    assert sum("somebody else wrote there" in text and text.count("\n") == 1 for text in said) == 3
    folders = [out, *(out.with_name(f"model-{number}") for number in (2, 3, 4))]
    assert sorted((folder / "who").read_text() for folder in folders) == ["0", "1", "2", "3"]
    assert (out / "who").read_text() == str(next(who for who, text in enumerate(said) if text == "Wrote\n"))


# -- a full disk -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError("No space left on device (os error 28)"), True),  # polars' sink_csv, without a number
        (pl.exceptions.ComputeError("underlying IO error: No space left on device (os error 28)"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (pl.exceptions.ComputeError("could not parse"), False),
    ],
)
def test_a_full_disk_is_told_as_one(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, full: bool
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(predicting, "write_parts", fail)
    out = model.parent / "scores.csv"
    assert score(model, out) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"parfocal: --out {out}: the disk is full") == full
    assert (f"Make room in {model.parent}, or choose another place" in said) == full
    assert os.listdir(model.parent) == ["model"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "none", place], check=False).returncode:
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_disk_that_is_full(
    model: Path, small_disk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    table = pl.read_csv(SAVED / "table.csv")
    pl.concat([table] * 400).with_columns(n=pl.int_range(pl.len()).hash()).write_csv(model.parent / "t.csv")
    out = small_disk / f"scores.{ending}"
    assert main(["predict", str(model), str(model.parent / "t.csv"), "--out", str(out), "--keep", "n"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"parfocal: --out {out}: the disk is full")
    assert said.count("\n") == 1
    assert os.listdir(small_disk) == []


@pytest.mark.parametrize("name", ["fit-lightgbm", "fit-xgboost", "fit-catboost"])
def test_a_model_on_a_full_disk(small_disk: Path, name: str) -> None:
    """No booster writes its file itself: XGBoost's and LightGBM's libraries don't say why they could not."""
    from parfocal.app.model.saved import read_model, write_model

    model = read_model(SAVED / name)
    (small_disk / "filler").write_bytes(b"x" * (64 * 1024 - 12 * 1024))
    with pytest.raises(BadInput, match="the disk is full"):
        write_model(model, b"x" * 20_000, "page", small_disk / "model", False)
    assert os.listdir(small_disk) == ["filler"]


def test_a_disk_that_is_full_elsewhere(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As when standard output goes to a file there."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(scores, "print_scores", fail)
    assert score(model, model.parent / "scores.csv") == 2
    assert capsys.readouterr().err.startswith("parfocal: standard output: the disk is full; make room")
