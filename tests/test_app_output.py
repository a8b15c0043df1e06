"""Outputs are complete or not there, and every failure is one line."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

from app_fits import QUICK, few_rounds, fit, made_table, predict
from parfocal import boosters
from parfocal.app import cli, main, predicting
from parfocal.app.study import study, training
from parfocal.backends import gpu
from tiers import tiers

impatience = few_rounds(5, 25)


def test_existing_output_is_refused_before_any_work(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "model" / "model.json").stat().st_mtime_ns
    assert fit(folder / "no such table.csv", folder / "model") == 2
    assert "add --force" in capsys.readouterr().err  # and not that there is no such table
    assert (folder / "model" / "model.json").stat().st_mtime_ns == before


def test_force_replaces_models_and_empty_folders_only(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert fit(folder / "table.csv", out) == 2
    shutil.copytree(folder / "model", out, dirs_exist_ok=True)
    (out / "notes").touch()
    assert fit(folder / "table.csv", out, "--force") == 2
    assert (out / "notes").exists()
    (out / "notes").unlink()
    assert fit(folder / "table.csv", out, "--force") == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "judged.parquet",
        "model.json",
        "model.txt",
        "report.html",
        "report.png",
    ]
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "data").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.json").write_text("{}")
    (tmp_path / "file").touch()
    capsys.readouterr()
    for name in ("precious", "other", "file"):
        assert fit(folder / "table.csv", tmp_path / name, "--force") == 2
        assert "is not a parfocal model" in capsys.readouterr().err
    assert (tmp_path / "precious" / "data").exists()


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, pytest.param(OSError(28, "No space left on device"), marks=pytest.mark.full)], ids=repr
)
def test_failure_while_writing_leaves_nothing_new(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
) -> None:
    shutil.copytree(folder / "model", tmp_path / "model")
    before = (tmp_path / "model" / "model.json").read_bytes()
    status = 130 if error is KeyboardInterrupt else 2

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", fail)  # the picture, the last of the three files
        assert fit(folder / "table.csv", tmp_path / "model", "--force") == status
        assert fit(folder / "table.csv", tmp_path / "other") == status
    with monkeypatch.context() as patched:
        patched.setattr(predicting, "write_parts", fail)
        assert predict(folder / "model", folder / "table.csv", tmp_path / "scores.csv") == status
    assert capsys.readouterr().err.count("\n") == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    assert (tmp_path / "model" / "model.json").read_bytes() == before


SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.mark.parametrize(("number", "status"), tiers(SIGNALS, SIGNALS[:1]))
def test_signals_end_a_fit_and_leave_nothing(tmp_path: Path, number: int, status: int) -> None:
    made_table(100_000).write_parquet(tmp_path / "table.parquet")  # half a minute of fitting
    program = "import sys; from parfocal.app import main; sys.exit(main())"
    arguments = ["fit", "table.parquet", "--target", "event", "--out", "model"]
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", program, *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while not process.stdout.readline().startswith("final test"):  # now the fits begin
        assert process.poll() is None
    time.sleep(0.5)
    process.send_signal(number)
    _, errors = process.communicate(timeout=15)
    assert process.returncode == status
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["table.parquet"]


def test_a_failing_thread_stops_the_others() -> None:
    def work(job: int, stop: Any) -> int:
        if job == 3:
            raise ValueError("three")
        assert stop.wait(timeout=30)  # would wait for ever if nobody told it
        raise boosters.Stopped

    with pytest.raises(ValueError, match="three"):
        training.in_threads(work, [3, 1])


def test_the_commands_in_eight_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    program = typer.main.get_command(cli.app)
    assert {line.split()[1] for line in lines[2:-1]} == set(program.commands)  # type: ignore[attr-defined]  # a group


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("parfocal ")
    for arguments in (["--help"], ["decide", "--help"], ["fit", "--help"], ["predict", "--help"]):
        assert main(arguments) == 0
        assert "Usage: parfocal" in capsys.readouterr().out
    assert main(["fit", "t.csv"]) == 2
    assert "Missing option '--target'. (parfocal fit --help shows the options)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "usage"),
    [("fit", "[OPTIONS] TABLE"), ("predict", "[OPTIONS] FOLDER TABLE"), ("decide", "[OPTIONS] FOLDER [RULE]...")],
)
def test_help_names_what_is_given_as_users_write_it(
    command: str, usage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"Usage: parfocal {command} {usage}\n")
    assert not re.search(r"list\[|<path>|<int|<str|<float|[{}]", said)
    assert command != "fit" or said.count(" NUMBER ") == 3  # --gamma, --alpha, --seed


@pytest.mark.parametrize(
    ("build", "card", "triton", "expected"),
    [
        (None, False, False, ["PyTorch 1.0 was built for processors alone. https://pytorch.org/get-started"]),
        ("13.0", False, True, ["PyTorch 1.0 finds no GPU. Does the driver (`nvidia-smi`"]),
        ("13.0", True, False, ["Triton is not installed: "]),
        ("13.0", False, False, ["PyTorch 1.0 finds no GPU.", "Triton is not installed: "]),
        ("13.0", True, True, []),
    ],
)
def test_info_says_what_a_gpu_lacks(
    build: str | None,
    card: bool,
    triton: bool,
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch, "__version__", "1.0")
    monkeypatch.setattr(torch.version, "cuda", build)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: card)
    monkeypatch.setattr(gpu, "installed", lambda: triton)
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    for line, start in zip(lacks(printed), expected, strict=True):
        assert line.split("missing: ")[1].startswith(start)
    monkeypatch.setattr(gpu, "forced", lambda: "torch")
    assert main(["info"]) == 0
    assert not lacks(capsys.readouterr().out)


def lacks(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if "missing: " in line]


def test_info_without_pytorch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: None)
    assert main(["info"]) == 0
    assert lacks(capsys.readouterr().out)[0].split("missing: ")[1].startswith("PyTorch is not installed. https://")


def test_a_bug_of_ours_is_one_line_too(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(study, "read_sample", fail)
    assert fit(folder / "table.csv", tmp_path / "model") == 1
    said = capsys.readouterr().err
    assert "internal error, please report it: ZeroDivisionError: oops" in said
    assert said.count("\n") == 1


@pytest.mark.full
def test_a_reader_that_leaves_does_not_stop_the_fit(folder: Path, tmp_path: Path) -> None:
    """`parfocal fit ... | head -1`"""
    command = "import sys; from parfocal.app import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["fit", str(folder / "table.csv"), "--target", "event", "--out", str(tmp_path / "model"), *QUICK]
    with subprocess.Popen([sys.executable, "-c", command, *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait() == 0
    assert (tmp_path / "model" / "model.json").is_file()
