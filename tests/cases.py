"""The numbers that the tests turn to, by name."""

from __future__ import annotations

import numpy as np

GAMMAS = (0.0, 0.3, 0.5, 1 - 1e-10, 1.0, 1 + 1e-10, 1.5, 2.0, 3.0, 4.4, 5.0, 10.0)

# 17: 1 - p rounds to 0 in float32; 37: in float64.  89 and 709: e^-x leaves the normal numbers of each.
LOGITS = (0.0, 1e-300, 1e-6, 0.4, 1.7, 5.0, 8.3, 17.0, 36.9, 88.9, 103.7, 200.3, 350.1, 500.3, 709.3, 715.0, 1e4)
LOGITS = tuple(sign * x for x in LOGITS for sign in (1, -1))

SOFT_LABELS = (1e-12, 0.05, 0.3, 0.5, 0.9, 1 - 1e-9)

SOFTMAX_ROWS = {
    "two classes": [0.7, -1.1],
    "two classes, far": [-40.3, 48.2],
    "all equal": [3.0, 3.0, 3.0],
    "a tie on top": [5.5, 5.5, -20.0],
    "three apart": [-50.0, 50.0, 0.1],
    "large and close": [9999.2, 9998.7, 10000.0, 9990.5],
    "large and far": [1e4, -1e4, 0.0],
    "a gap that rounds": [0.123456789, -650.7, -600.3, -0.4],
    "one lonely winner": [700.4, 0.3, -0.2, 1.1],
    "nearly one winner": [17.0, 1e-6, -1e-6, -17.0, 89.0],
}

# What the project promises, relative to the value or to the sum of its absolute terms.
TOLERANCE = {np.float32: 1e-6, np.float64: 1e-14}


def smallest_normal(dtype: type) -> float:
    return float(np.finfo(dtype).tiny)
