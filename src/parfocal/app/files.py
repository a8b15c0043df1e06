"""Outputs are written whole or not at all, and nothing of the user's is lost.

Whether `--out` is free is checked twice: before the work, to save it, and at the end, where the system itself decides.
Whatever appeared there in the meantime stays, and the output gets a name beside it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from polars.exceptions import PanicException

from parfocal.app import owners
from parfocal.app.errors import BadInput, one_line

Replaceable = Callable[[Path], bool]

TRIES = 5  # of --force, against others who write there at the same moment
NAMES = 1000  # tried beside --out
# The errors of file systems without hard links.
NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
# Libraries that hide the number print these: POSIX's words, a quota's, and Windows's.
FULL_WORDS = ("no space left on device", "disk quota exceeded", "not enough space on the disk", "disk is full")


def check_free(path: Path, force: bool, replaceable: Replaceable, allowed: str) -> None:
    """Refuse, before any work, an output that exists (unless forced) or that can't be written."""
    if not path.name or (path.is_dir() and path.samefile(Path.cwd())):
        raise BadInput(f"--out {path}: that is the folder you are in; choose a new name")
    if not path.parent.is_dir():
        raise BadInput(f"--out {path}: there is no folder {path.parent}; create it first, or choose another place")
    if not os.access(path.parent, os.W_OK):
        raise BadInput(f"--out {path}: no permission to write in {path.parent}; choose another place")
    owners.sweep(path.parent.resolve(), lambda old, to: settle_left(old, to, replaceable))
    if not exists(path):
        return
    if not replaceable(path):
        raise BadInput(f"--out {path} exists and is not {allowed}; parfocal won't replace it, choose another name")
    if not force:
        raise BadInput(f"--out {path} exists; add --force to replace it, or choose another name")


def exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()


@contextmanager
def staged(path: Path, force: bool, replaceable: Replaceable) -> Iterator[Path]:
    """A place to write a file or folder.  It gets its final name, `path`, only if the block ends well.

    It lies in a hidden folder beside `path`, so that the last step is a rename within one file system.  What is
    replaced is kept until the new one is in place.
    """
    given, path = path, path.parent.resolve() / path.name  # a path through itself, m/../m, ends once m has moved
    with full_disk_as_bad_input(given):
        staging = owners.Staging(path)
        new, old = staging.folder / path.name, staging.folder / owners.REPLACED
        try:
            yield new
            for _ in range(TRIES):
                if not (force and exists(path)):
                    placed = place(new, path)
                else:
                    placed = replaceable(path) and replace(new, path, old, replaceable)
                if placed:
                    return
                settle(old, path, replaceable)
                if not force:
                    break
            beside = given.with_name(place_beside(new, path).name)
            raise BadInput(
                f"--out {given}: somebody else wrote there in the meantime, which is left as it is; what parfocal made "
                f"is in {beside}"
            )
        finally:
            settle(old, path, replaceable)  # if it fails, the next run tries again
            staging.remove()


# -- the last step ---------------------------------------------------------------------------------


def place(new: Path, path: Path) -> bool:
    """Give `new` the name `path` if it is free.  The system decides, so nothing can come in between."""
    try:
        if os.name == "nt":
            os.rename(new, path)  # on Windows it never replaces anything
        elif new.is_dir():
            try:
                os.mkdir(path)  # fails if the name is taken, and otherwise reserves it
                os.rename(new, path)  # replaces an empty folder only: it fails if something was put there
            except FileExistsError:
                return False
            except BaseException:
                with suppress(OSError):
                    os.rmdir(path)  # if it is empty
                raise
        else:
            place_file(new, path)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR):
            return False
        raise
    return True


def place_file(new: Path, path: Path) -> None:
    try:
        os.link(new, path)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        keep_name(path)
        os.replace(new, path)


def keep_name(path: Path) -> None:
    """Without hard links: an empty file reserves the name, or fails if it is taken."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))


def replace(new: Path, path: Path, old: Path, replaceable: Replaceable) -> bool:
    """Put `new` in the place of what is there, if that is `replaceable`."""
    try:
        if not new.is_dir():
            os.replace(new, path)  # one step; the system refuses if it has become a folder
            return True
        os.rename(path, old)  # a rename can't replace a folder that holds files
    except IsADirectoryError:
        return False
    except FileNotFoundError:
        if not exists(new):
            raise
        return place(new, path)
    # Nobody adds to it where it is now, so what is checked is what will be removed.
    return may_go(old, replaceable) and place(new, path)


def may_go(old: Path, replaceable: Replaceable) -> bool:
    return old.is_symlink() or replaceable(old)  # the target of a link stays


def settle(old: Path, path: Path, replaceable: Replaceable) -> None:
    """Remove what was moved away if it may go and its successor is in place; otherwise put it back, there or beside."""
    if not exists(old):
        return
    if path.is_dir() and not path.is_symlink():
        with suppress(OSError):
            os.rmdir(path)  # an empty one that only reserves the name
    if exists(path) and may_go(old, replaceable):
        owners.delete(old)
    elif not (place_link(old, path) if old.is_symlink() else place(old, path)):
        place_beside(old, path)


def settle_left(old: Path, path: Path, replaceable: Replaceable) -> bool:
    """The same for what a killed process had moved away.  Returns whether the rest may be removed."""
    if exists(path) and not may_go(old, replaceable):
        return False
    settle(old, path, replaceable)
    return True


def place_link(old: Path, path: Path) -> bool:
    """The same for a link to a folder."""
    try:
        os.symlink(os.readlink(old), path)
    except FileExistsError:
        return False
    old.unlink()
    return True


def place_beside(new: Path, path: Path) -> Path:
    """The first free of `model-2`, `model-3` ..., `scores-2.csv` ..."""
    for number in range(2, NAMES):
        beside = path.with_name(f"{path.stem}-{number}{path.suffix}")
        if place_link(new, beside) if new.is_symlink() else place(new, beside):
            return beside
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


# -- a full disk -----------------------------------------------------------------------------------


def is_full(error: BaseException) -> bool:
    """Whether an error says that the disk is full; polars and the boosters say so in words, without a number."""
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    return any(words in str(error).lower() for words in FULL_WORDS)


@contextmanager
def full_disk_as_bad_input(path: Path) -> Iterator[None]:
    try:
        yield
    except BadInput:
        raise
    except (Exception, PanicException) as error:
        if not is_full(error):
            raise
        raise BadInput(
            f"--out {path}: the disk is full, or your share of it ({one_line(error)}); nothing was written. Make room "
            f"in {path.absolute().parent}, or choose another place"
        ) from error
