"""Unfinished folders: how those of a killed process are distinguished from those of a live one, and removed.

A process that writes holds a lock on the file `owner` in its hidden folder, from before that file has its name until
everything else is gone.  The system frees the lock when the process ends, however it ends.  So a folder whose lock can
be had belongs to no process, provided that every process which could hold it would be seen:

    written since this system started (one kernel, so containers too)         the lock decides
    by this host before its last start                                        the lock decides, after a day unchanged
    by another host, which may share the disk but not the locks               it stays
    where files can't be locked (Windows, some network disks)                 it stays

Only what parfocal wrote is removed: a folder of another user, one without `owner`, and one with any other file in it
stay as they are.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

MARK, REPLACED, ENDING = "owner", "replaced", ".unfinished"
NAME = re.compile(r"\..+\.[a-z0-9_]{8}\.unfinished")
PART = re.compile(r"part-\d+\.parquet")
LONGEST_MARK = 10_000  # bytes
QUIET = 24 * 3600.0  # seconds without a change, after which a folder from before the last start has no owner


class Staging:
    """A hidden folder beside `path`, owned by this process until `remove`."""

    def __init__(self, path: Path) -> None:
        prefix = f".{path.name[:32]}."
        self.folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=ENDING, dir=path.parent))
        self.mark: IO[bytes] | None = None
        try:
            # Locked before it gets its name, so that whoever finds `owner` finds it locked.
            self.mark = (self.folder / f"{MARK}.new").open("w+b")
            locked = lock(self.mark)
            said = {"parfocal": "unfinished", "name": path.name, "locked": locked, **this_system()}
            self.mark.write(json.dumps(said).encode())
            self.mark.flush()
            os.rename(self.folder / f"{MARK}.new", self.folder / MARK)
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        remove(self.folder, self.mark)


def lock(mark: IO[bytes]) -> bool:
    """Whether the lock was free; it is held until the file is closed, or the process ends."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process holds it, or this file system has no locks
        return False
    return True


def remove(folder: Path, mark: IO[bytes] | None) -> None:
    """`owner` goes last, so that what a second kill leaves can still be recognised."""
    with suppress(OSError):
        for entry in list(folder.iterdir()):
            if entry.name != MARK:
                delete(entry)
        (folder / MARK).unlink(missing_ok=True)
    if mark is not None:
        mark.close()  # before the folder goes: a network disk keeps an open file under another name
    with suppress(OSError):
        folder.rmdir()


def delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sweep(parent: Path, settle: Callable[[Path, Path], bool]) -> None:
    """Remove what killed processes left in `parent`.

    A process that was killed while it replaced a model may have left the old one here.  `settle(old, path)` puts it
    back if its place is free, and returns whether the rest may be removed.
    """
    with suppress(OSError):
        for entry in list(os.scandir(parent)):
            if NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                with suppress(OSError):
                    sweep_one(Path(entry.path), settle)


def sweep_one(folder: Path, settle: Callable[[Path, Path], bool]) -> None:
    if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
        return
    inside = {path.name for path in folder.iterdir()}
    if inside <= {f"{MARK}.new"}:
        # Killed before it had a mark, or about to get one: after a day it is the former.
        if time.time() - folder.stat().st_mtime > QUIET:
            remove(folder, None)
        return
    mark_path = folder / MARK
    if mark_path.is_symlink() or not mark_path.is_file():
        return
    with mark_path.open("r+b") as mark:
        if not lock(mark):
            return
        said = read_mark(mark)
        name = said.get("name")
        if said.get("parfocal") != "unfinished" or said.get("locked") is not True:
            return
        if not isinstance(name, str) or Path(name).name != name:
            return
        if not all(other in (MARK, REPLACED, name) or PART.fullmatch(other) for other in inside):
            return
        if not lock_is_enough(said, folder, inside):
            return
        if REPLACED in inside and not settle(folder / REPLACED, folder.parent / name):
            return
        remove(folder, mark)


def read_mark(mark: IO[bytes]) -> dict[str, Any]:
    try:
        said = json.loads(mark.read(LONGEST_MARK))
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def lock_is_enough(said: dict[str, Any], folder: Path, inside: set[str]) -> bool:
    """Whether any process that could still write there would hold the lock; see the table above."""
    here = this_system()
    if said.get("started") and said["started"] == here["started"]:
        return True
    if said.get("host") != here["host"]:
        return False
    latest = max(path.lstat().st_mtime for path in (folder, *(folder / name for name in inside)))
    return time.time() - latest > QUIET


def this_system() -> dict[str, str]:
    """The host's name, and what Linux calls this run of its kernel ("" elsewhere)."""
    try:
        started = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        started = ""
    return {"host": socket.gethostname(), "started": started}
