"""Writing all or nothing: what is not complete is never seen under its final name."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from parfocal.app.errors import BadInput


def check_free(path: Path, force: bool, replaceable: Callable[[Path], bool], allowed: str) -> None:
    """Refuse, before any work, an output that exists (unless forced) or that can't be written."""
    if not path.name or path.absolute() == Path.cwd():
        raise BadInput(f"--out {path}: that is the folder you are in; choose a new name")
    if not path.parent.is_dir():
        raise BadInput(f"--out {path}: there is no folder {path.parent}; create it first, or choose another place")
    if not os.access(path.parent, os.W_OK):
        raise BadInput(f"--out {path}: no permission to write in {path.parent}; choose another place")
    if not (path.exists() or path.is_symlink()):
        return
    if not replaceable(path):
        raise BadInput(f"--out {path} exists and is not {allowed}; parfocal won't replace it, choose another name")
    if not force:
        raise BadInput(f"--out {path} exists; add --force to replace it, or choose another name")


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A place to write a file or folder, which takes its final name, `path`, only if the block ends well.

    It lies in a hidden folder beside `path`, so that the last step is a rename within one file system.  What stood
    at `path` before is kept until the new one stands there.
    """
    path = path.absolute()
    staging = Path(tempfile.mkdtemp(prefix=f".{path.name[:32]}.", suffix=".unfinished", dir=path.parent))
    try:
        new, old = staging / path.name, staging / "replaced"
        yield new
        if path.is_dir():  # a rename can't replace a folder that holds files
            os.rename(path, old)
            try:
                os.rename(new, path)
            except BaseException:
                os.rename(old, path)
                raise
        else:
            os.replace(new, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
