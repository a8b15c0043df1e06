"""Breaking parfocal on purpose, in this process or in a copy, and running checks of the suite on what was broken."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType, FunctionType

import pytest

import parfocal
from parfocal.backends import kernel
from parfocal.core import parameters

SOURCE = Path(parfocal.__file__).parent
TESTS = Path(__file__).parent

# What pytest is given for a run inside of a run: none of this project's options, and no plugin whose work is for the
# whole process (the last two collect garbage five times at the end: two seconds, where the frameworks are loaded).
ALONE = ["-x", "-q", "--tb=short", "-c", os.devnull, "-W", "ignore", "--rootdir", str(TESTS)]
for plugin in ("cacheprovider", "faulthandler", "xdist", "threadexception", "unraisableexception"):
    ALONE += ["-p", f"no:{plugin}"]


def mutated(path: Path, original: str, broken: str) -> str:
    """The text of a file with `original`, which it must hold once, replaced; nothing moves to another line."""
    text = path.read_text()
    assert text.count(original) == 1, f"{path.name} no longer holds {original!r} once; mend the mutant"
    assert original.count("\n") == broken.count("\n"), f"{broken!r} must have as many lines as {original!r}"
    return text.replace(original, broken)


def arguments(checks: Iterable[str], of_each: int | None) -> list[str]:
    """pytest's, for checks, "file::function" without the test_ of the file: all their cases, or a few of each."""
    few = ["-p", "few", "--of-each", str(of_each)] if of_each else []
    return [*ALONE, *few, *(f"{TESTS}/test_{check}".replace("::", ".py::", 1) for check in checks)]


def red(returncode: int, said: str = "") -> bool:
    """Whether a test failed.  That none was found, or that pytest stumbled, is neither red nor green."""
    assert returncode in (0, 1), f"pytest returned {returncode}\n{said[-4000:]}"
    return returncode == 1


# -- in this process


@contextlib.contextmanager
def broken_function(file: str, original: str, broken: str, folder: Path) -> Iterator[None]:
    """The functions of parfocal/`file` whose code the change touches have the changed code.

    Whoever imported them has them too, as a function stays the same object.  Constants of a module, bodies of classes
    and default arguments were evaluated long ago: break those in a copy of the package.
    """
    importlib.import_module(".".join(["parfocal", *Path(file).with_suffix("").parts]))
    path, changed = SOURCE / file, folder / Path(file).name
    changed.write_text(mutated(path, original, broken))  # a file of its own, as TensorFlow reads functions from files
    new = dict(swaps(*(compile(p.read_text(), str(p), "exec") for p in (path, changed))))
    found = {id(f): f for f in gc.get_objects() if type(f) is FunctionType and place(f.__code__, path) in new}
    assert found, f"nobody has the functions of {file} that {broken!r} changes"
    before = {number: function.__code__ for number, function in found.items()}
    try:
        for function in found.values():
            function.__code__ = new[place(function.__code__, path)]
        forget()
        yield
    finally:
        for number, function in found.items():
            function.__code__ = before[number]
        forget()


def place(code: CodeType, path: Path) -> tuple[str, int] | None:
    return (code.co_qualname, code.co_firstlineno) if code.co_filename == str(path) else None


def swaps(before: CodeType, after: CodeType) -> Iterator[tuple[tuple[str, int], CodeType]]:
    """Where a function stands, and its changed code, of each function of a module or class that changed."""
    assert before.co_code == after.co_code, f"the body of {before.co_name} changes; break it in a copy of the package"
    for old, new in zip(before.co_consts, after.co_consts, strict=True):
        if not isinstance(old, CodeType):
            assert old == new, f"{old!r} is a constant of {before.co_name}; break it in a copy of the package"
        elif not old.co_flags & FUNCTION:
            yield from swaps(old, new)
        elif old != new:
            yield (old.co_qualname, old.co_firstlineno), new


FUNCTION = 2  # inspect.CO_NEWLOCALS: the body of a class has none


def forget() -> None:
    """Nothing that was computed or compiled before is taken again."""
    parameters.remembered.cache_clear()
    if jax := sys.modules.get("jax"):
        jax.clear_caches()
    if dynamo := sys.modules.get("torch._dynamo"):
        dynamo.reset()


def turns_red(checks: Iterable[str], of_each: int | None = None) -> bool:
    """Runs checks in this process, with NumPy as the only kernel, as pytest would."""
    files, environment = {f"test_{check.partition('::')[0]}" for check in checks}, dict(os.environ)
    modules = {name: module for name in files if (module := sys.modules.pop(name, None))}  # they are imported again
    before = parfocal.kernel_info()["kernel"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(kernel, "native", None)  # its conftest asks for all kernels
        patched.setattr(kernel, "active", None)
        try:
            code = pytest.main(arguments(checks, of_each))
        finally:
            os.environ.update(environment)  # pytest takes the name of the running test with it
            sys.modules.update(modules)
    kernel.use(before)
    return red(code)


# -- in a copy


def copy_of_parfocal(folder: Path) -> Path:
    """Without the native kernels, which would go on computing what is right."""
    ignore = shutil.ignore_patterns("__pycache__", "_native*.so", "_native*.pyd")
    return Path(shutil.copytree(SOURCE, folder / "parfocal", ignore=ignore))


class Prepared:
    """A process that has imported modules, and runs checks in forks of itself (prepared.py)."""

    def __init__(self, *modules: str) -> None:
        command = [sys.executable, str(TESTS / "prepared.py"), *modules]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Prepared:
        return self

    def __exit__(self, *given: object) -> None:
        self.process.communicate()  # with nothing more to run it ends

    def run(self, package: Path, environment: dict[str, str], given: list[str]) -> tuple[int, str]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps([str(package), environment, given]), file=self.process.stdin, flush=True)
        status, printed = json.loads(self.process.stdout.readline())
        return status, printed


def turns_red_with(
    package: Path, checks: Iterable[str], kernel: str, of_each: int | None = None, prepared: Prepared | None = None
) -> bool:
    """Runs checks in a new process, with the copy of parfocal in the folder `package`."""
    given, environment = arguments(checks, of_each), environment_with(package, kernel)
    if prepared is not None:
        return red(*prepared.run(package, environment, given))
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *given], env={**os.environ, **environment}, capture_output=True, text=True
    )
    return red(result.returncode, result.stdout + result.stderr)


def environment_with(package: Path, kernel: str) -> dict[str, str]:
    return {"PYTHONPATH": f"{package}{os.pathsep}{TESTS}", "PARFOCAL_KERNEL": kernel}
