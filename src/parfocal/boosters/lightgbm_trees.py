"""Saved LightGBM models, opened and asked for scores by its C library alone.

`import lightgbm` imports scikit-learn and SciPy's statistics where they are installed: a second of work, for a table of
ten rows too.  The functions here are of LightGBM's documented C API, and give the bits of `lightgbm.Booster.predict`.
The package is found without being imported, and neither it nor its own handle of the library is touched.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
import weakref
from ctypes import POINTER, c_char_p, c_double, c_int, c_int32, c_int64, c_void_p
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from parfocal.core.hosts import counted

PACKAGE = "lightgbm"
VERSION = "4."  # of the C API below
FILES = {"win32": "lib_lightgbm.dll", "darwin": "lib_lightgbm.dylib"}
FILE = "lib_lightgbm.so"  # elsewhere
FOLDERS = ("lib", "bin", ".")

RAW_SCORE, CONTRIBUTIONS = 1, 3  # C_API_PREDICT_RAW_SCORE, C_API_PREDICT_CONTRIB
FLOAT64 = 1  # C_API_DTYPE_FLOAT64
ROW_BY_ROW = 1

FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "LGBM_BoosterLoadModelFromString": (c_char_p, POINTER(c_int), POINTER(c_void_p)),
    "LGBM_BoosterFree": (c_void_p,),
    "LGBM_BoosterGetNumFeature": (c_void_p, POINTER(c_int)),
    "LGBM_BoosterGetNumClasses": (c_void_p, POINTER(c_int)),
    "LGBM_BoosterCalcNumPredict": (c_void_p, c_int, c_int, c_int, c_int, POINTER(c_int64)),
    "LGBM_BoosterPredictForMat": (
        *(c_void_p, c_void_p, c_int, c_int32, c_int32, c_int, c_int, c_int, c_int, c_char_p),
        *(POINTER(c_int64), POINTER(c_double)),
    ),
}


@cache
def library() -> ctypes.CDLL | None:
    """LightGBM's C library; None where only its package can find it, or knows its functions."""
    file = library_file()
    if file is None:
        return None
    try:
        found = ctypes.CDLL(str(file))
        found.LGBM_GetLastError.restype = c_char_p
        for name, arguments in FUNCTIONS.items():
            getattr(found, name).argtypes = arguments
    except (OSError, AttributeError):  # the package says what is wrong, in its own words
        return None
    return found


def library_file() -> Path | None:
    try:
        package = importlib.util.find_spec(PACKAGE)  # a name without a dot, so nothing is imported
    except ValueError:  # something else is called lightgbm in this process
        return None
    for folder in map(Path, (package and package.submodule_search_locations) or ()):
        try:
            known = (folder / "VERSION.txt").read_text(encoding="utf-8").startswith(VERSION)
        except (OSError, UnicodeDecodeError):
            continue
        files = (folder / place / FILES.get(sys.platform, FILE) for place in FOLDERS)
        file = next((file for file in files if file.is_file()), None) if known else None
        if file is not None:
            return file
    return None


class Trees:
    """A model that LightGBM's C library holds.  All but scores is asked of the package's own Booster, when it is."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        found = library()
        if found is None:
            raise RuntimeError("LightGBM's C library was not found")
        self.library, self.handle = found, c_void_p()
        self._call("LGBM_BoosterLoadModelFromString", text, ctypes.byref(c_int()), ctypes.byref(self.handle))
        self.free = weakref.finalize(self, found.LGBM_BoosterFree, self.handle)
        self.features, self.classes = (
            self._number("LGBM_BoosterGetNumFeature"),
            self._number("LGBM_BoosterGetNumClasses"),
        )

    def __reduce__(self) -> tuple[type[Trees], tuple[bytes]]:
        return Trees, (self.text,)

    @cached_property
    def booster(self) -> Any:
        """The same model as LightGBM's package has it, which is imported now."""
        return importlib.import_module(PACKAGE).Booster(model_str=self.text.decode())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "text" not in vars(self):  # such as what `copy` and `pickle` look for
            raise AttributeError(name)
        return getattr(self.booster, name)

    def _call(self, name: str, *arguments: Any) -> None:
        if getattr(self.library, name)(*arguments):
            raise RuntimeError(self.library.LGBM_GetLastError().decode("utf-8", errors="replace"))

    def _number(self, name: str) -> int:
        value = c_int()
        self._call(name, self.handle, ctypes.byref(value))
        return value.value

    def scores(self, matrix: np.ndarray) -> np.ndarray:
        """(N,), or (N, classes) of more than two."""
        found = self._predict(matrix, RAW_SCORE)
        return found if self.classes == 1 else found.reshape(len(matrix), self.classes)

    def contributions(self, matrix: np.ndarray) -> np.ndarray:
        """(N, classes times (features + 1)), as `lightgbm.Booster.predict(..., pred_contrib=True)`."""
        return self._predict(matrix, CONTRIBUTIONS).reshape(len(matrix), self.classes * (self.features + 1))

    def _predict(self, matrix: np.ndarray, what: int) -> np.ndarray:
        matrix = np.ascontiguousarray(matrix, dtype=np.float64)
        if matrix.ndim != 2 or matrix.shape[1] != self.features:  # otherwise the library may read beyond its end
            features = counted(self.features, "feature")
            raise ValueError(f"the matrix has the shape {matrix.shape}, and the model {features}")
        rows, size, written = len(matrix), c_int64(), c_int64()
        if not rows:
            return np.empty(0)
        self._call("LGBM_BoosterCalcNumPredict", self.handle, rows, what, 0, -1, ctypes.byref(size))
        found = np.empty(size.value)
        self._call(
            "LGBM_BoosterPredictForMat",
            *(self.handle, matrix.ctypes.data, FLOAT64, rows, self.features, ROW_BY_ROW, what, 0, -1, b""),
            *(ctypes.byref(written), found.ctypes.data_as(POINTER(c_double))),
        )
        if written.value != size.value:
            raise RuntimeError(f"LightGBM gave {counted(written.value, 'number')}, not {size.value:,}")
        return found
