"""What a killed process leaves: swept away if nobody owns it, and nothing of the user's is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from app_saved import NEW, SAVED, contents, make_folder, score, wait_for, write_folder
from parfocal.app import files, owners
from parfocal.app.model.saved import is_model_or_empty


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAVED / "fit-lightgbm", tmp_path / "model"))


HOLD = """
import sys, time
from pathlib import Path
from parfocal.app import owners
staging = owners.Staging(Path(sys.argv[1]))
(staging.folder / "part-000000.parquet").touch()
print("there", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has begun to write `model`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "model")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        yield process
        process.kill()


def unfinished(folder: Path) -> list[Path]:
    return sorted(folder.glob(".*.unfinished"))


def sweep(folder: Path) -> None:
    """As a run that would write another name."""
    files.check_free(folder / "other", False, is_model_or_empty, "")


def killed(holder: subprocess.Popen[str], folder: Path) -> Path:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    return unfinished(folder)[0]


@pytest.mark.full
def test_a_live_process_keeps_its_folder_and_a_killed_one_does_not(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    sweep(tmp_path)
    assert len(unfinished(tmp_path)) == 1
    killed(holder, tmp_path)
    assert len(unfinished(tmp_path)) == 1
    sweep(tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a killed process leaves: its lock is gone, nothing else."""
    staging = owners.Staging(tmp_path / "model")
    (staging.folder / "part-000000.parquet").touch()
    assert staging.mark is not None
    sweep(tmp_path)
    assert unfinished(tmp_path) == [staging.folder]  # while the lock is held
    staging.mark.close()
    return staging.folder


def edit(left: Path, **changes: Any) -> None:
    mark = left / owners.MARK
    mark.write_text(json.dumps({**json.loads(mark.read_text()), **changes}))


def age(left: Path, seconds: float) -> None:
    for path in (*left.iterdir(), left):
        os.utime(path, (time.time() - seconds,) * 2)


def test_what_nobody_owns_is_swept(left: Path) -> None:
    sweep(left.parent)
    assert not left.exists()


def nothing(_: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("change", "old", "swept"),
    [
        (lambda left: edit(left, host="another", started="another"), True, False),
        (lambda left: edit(left, host="another", started=""), True, False),
        (lambda left: edit(left, host="a container's"), False, True),  # of this kernel, which knows all locks
        (lambda left: edit(left, started="before"), False, False),
        (lambda left: edit(left, started="before"), True, True),
        (lambda left: edit(left, locked=False), True, False),
        (lambda left: edit(left, name="../model"), False, False),
        (lambda left: edit(left, parfocal="x"), False, False),
        (lambda left: (left / owners.MARK).write_text("[" * 5000), True, False),
        (lambda left: (left / owners.MARK).unlink(), True, False),
        (lambda left: (left / "notes.txt").touch(), True, False),
        (lambda left: left.chmod(0o755), False, True),
    ],
)
def test_what_is_swept(left: Path, change: Callable[[Path], Any], old: bool, swept: bool) -> None:
    change(left)
    if old:
        age(left, owners.QUIET + 60)
    sweep(left.parent)
    assert left.exists() != swept


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows has no such users")
def test_the_folder_of_another_user_stays(left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: left.stat().st_uid + 1)
    sweep(left.parent)
    assert left.exists()


def test_folders_that_look_like_ours_stay(tmp_path: Path) -> None:
    for name in (".model.unfinished", "model.abcdefgh.unfinished", ".model.abcdefgh.unfinished"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("precious")
        age(tmp_path / name, owners.QUIET + 60)
    (tmp_path / ".link.abcdefgh.unfinished").symlink_to(".model.unfinished")
    sweep(tmp_path)
    assert len(list(tmp_path.glob("*/mine"))) == 4


def test_a_folder_without_a_mark_goes_after_a_day(left: Path) -> None:
    for path in left.iterdir():
        path.unlink()
    sweep(left.parent)
    assert left.exists()
    age(left, owners.QUIET + 60)
    sweep(left.parent)
    assert not left.exists()


@pytest.mark.parametrize("there", [None, "an empty folder", "a folder"])
def test_a_model_that_a_killed_process_had_moved_away_stands_again(left: Path, there: str | None) -> None:
    write_folder(left / owners.REPLACED)
    out = left.parent / "model"
    if there == "an empty folder":
        out.mkdir()  # as it was killed between keeping the name and the rename
    elif there:
        make_folder(out)
    sweep(left.parent)
    assert not left.exists()
    assert contents(out) == ({"mine": "precious"} if there == "a folder" else NEW)


def test_an_interrupt_at_any_step_loses_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C or SIGTERM after each rename in turn: the old or the new model stands there, whole."""
    rename, mkdir, steps = os.rename, os.mkdir, 0
    for stop in range(1, 10):
        out = tmp_path / f"model{stop}"
        write_folder(out)
        (out / "report.png").write_text("old")
        steps = 0

        def counted(do: Callable[..., None], stop: int = stop, out: Path = out) -> Callable[..., None]:
            def step(*given: Any) -> None:
                nonlocal steps
                do(*given)
                if out in given:
                    steps += 1
                    if steps == stop:
                        raise KeyboardInterrupt

            return step

        with monkeypatch.context() as patched:
            patched.setattr(os, "rename", counted(rename))
            patched.setattr(os, "mkdir", counted(mkdir))
            try:
                write_folder(out, force=True)
            except KeyboardInterrupt:
                pass
            else:
                break
        assert contents(out) in (NEW, {**NEW, "report.png": "old"}), stop
        assert unfinished(tmp_path) == []
    assert stop == 4  # moved away, its name kept, placed


PREDICT = """
import sys
from parfocal.app import main
from parfocal.app.model import scoring
scoring.CHUNK = 1
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.full
def test_kill_9_in_predict(model: Path) -> None:
    table = pl.read_csv(SAVED / "table.csv")
    pl.concat([table] * 40).write_csv(model.parent / "t.csv")
    out = model.parent / "scores.csv"
    arguments = ["predict", str(model), str(model.parent / "t.csv"), "--out", str(out)]
    with subprocess.Popen([sys.executable, "-c", PREDICT, *arguments]) as process:
        wait_for(lambda: any(model.parent.glob(".*.unfinished/part-*")) or process.poll() is not None)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert len(unfinished(model.parent)) == 1
    assert not out.exists()
    assert score(model, model.parent / "else.csv") == 0
    assert sorted(os.listdir(model.parent)) == ["else.csv", "model", "t.csv"]
