"""The largest relative error of every kernel on a grid of extremes: `python tests/kernel_errors.py` records them.

The reference is the three lines of the formula in NumPy's longdouble, which has 11 bits more than double.
`test_exact.py` checks every kernel against mpmath on fewer points.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import parfocal
from parfocal.backends import kernel
from parfocal.core import formula

GAMMAS = (0.0, 0.3, 0.5, 1.0, 1.5, 2.0, 3.0, 4.4, 5.0, 10.0)
PROMISED = {"float32": 1e-6, "float64": 1e-14}
TABLE = Path(__file__).with_name("kernel_errors.csv")


def extremes(dtype: type) -> np.ndarray:
    """Margins on a fine grid near 0, where most digits can be lost, and coarser ones as far as 1e4."""
    rng = np.random.default_rng(0)
    near, far = rng.uniform(-12, 12, 20_000), rng.uniform(-120, 120, 10_000)
    sizes = 10 ** rng.uniform(-12, 4, 4_000)
    return np.concatenate([near, far, sizes, -sizes, [0.0, 1e4, -1e4]]).astype(dtype)


def worst(got: np.ndarray, exact: np.ndarray, scale: np.ndarray, tiny: float) -> float:
    """The largest error relative to `scale`, where that is a normal number."""
    normal = scale > tiny
    return float(np.max(np.abs(got - exact)[normal] / scale[normal]))


def curvature_scale(m: np.ndarray, g: float) -> np.ndarray:
    """The sum of the absolute terms of the curvature."""
    at = formula.link(np, m)
    return at.p * at.q**g * (at.q * (1 + 2 * g) - g * at.q * at.u - g * g * at.p * at.u)


def measure(name: str) -> Iterator[tuple[str, str, str, str, str, str]]:
    """(kernel, loss, dtype, gamma, term, error), the errors of the binary loss at label 1 and 0 together."""
    for dtype in (np.float32, np.float64):
        tiny = float(np.finfo(dtype).tiny)
        x = extremes(dtype)
        m = x.astype(np.longdouble)
        for gamma in GAMMAS:
            g = np.longdouble(gamma)
            with np.errstate(all="ignore"):
                # `focal` carries low parts, which longdouble has no need of: 11 more bits serve as well.
                at = formula.link(np, m)
                q_to_g = np.exp(g * np.where(np.abs(m) > 1000, np.clip(-m, -1e4, 0), formula.log_q(np, at)[0]))
                exact = [-q_to_g * np.where(m < -1000, m, at.u), q_to_g * (g * at.p * at.u - at.q)]
                bracket = at.q * (1 + g * (at.u + 2)) - g * g * at.p * at.u
                exact.append(at.p * q_to_g * bracket)
                scales = [np.abs(exact[0]), np.abs(exact[1]), curvature_scale(m, g)]
            kernel.use(name)
            loss = parfocal.BinaryFocalCrossentropy(gamma=gamma, from_logits=True, reduction=None, dtype=dtype)
            errors = [0.0, 0.0, 0.0]
            for label, sign in ((1, 1), (0, -1)):
                labels, logits = np.full((x.size, 1), label), sign * x[:, None]
                value, gradient = loss.value_and_grad(labels, logits)
                got = [value, sign * gradient[:, 0], loss.curvature(labels, logits)[:, 0]]
                for i in range(3):
                    errors[i] = max(errors[i], worst(got[i], exact[i], scales[i], tiny))
            for term, error in zip(("loss", "gradient", "curvature"), errors, strict=True):
                yield name, "binary", np.dtype(dtype).name, str(gamma), term, f"{error:.2e}"


def main() -> None:
    with TABLE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["kernel", "loss", "dtype", "gamma", "term", "error"])
        for name in kernel.available():
            for row in measure(name):
                writer.writerow(row)
                print(*row)


if __name__ == "__main__":
    main()
