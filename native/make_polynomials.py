"""Prints the polynomials of elementary.hpp, by Chebyshev interpolation at 70 digits.  A test compares both.

Above each array stands the largest relative error of the function that is computed with it, as a power of 2.  Half a
unit in the last place is 2^-25 for float and 2^-54 for double.  Each degree is the smallest whose error is below that,
or one more where the coefficients' own rounding would come too near.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from mpmath import atanh, cos, exp, hyp1f1, log, log1p, lu_solve, matrix, mp, mpf, pi, sqrt

mp.dps = 70
Function = Callable[[mpf], mpf]


def interpolate(f: Function, low: mpf, high: mpf, degree: int) -> list[mpf]:
    """Coefficients of the polynomial that equals f at the Chebyshev points, lowest degree first."""
    middle, half, points = (low + high) / 2, (high - low) / 2, degree + 1
    nodes = [middle + half * cos(pi * (2 * i + 1) / (2 * points)) for i in range(points)]
    powers = matrix(points, points)
    for i, x in enumerate(nodes):
        for j in range(points):
            powers[i, j] = x**j
    return list(lu_solve(powers, matrix([f(x) for x in nodes])))


def value(coefficients: list[mpf], x: mpf) -> mpf:
    return sum((c * x**i for i, c in enumerate(coefficients)), mpf(0))


HALF_LOG2 = log(2) / 2 * mpf("1.0001")
EDGE = (sqrt(2) - 1) / (sqrt(2) + 1)  # t = (x - 1) / (x + 1) at x = sqrt 2

# name: (P, lower bound, upper bound, the function computed from P, the exact function, degrees in float and double)
POLYNOMIALS = {
    "exp_terms": (
        lambda r: hyp1f1(1, 3, r) / 2,  # (exp(r) - 1 - r) / r^2, also at 0
        -HALF_LOG2,
        HALF_LOG2,
        lambda r, p: 1 + r + r * r * p,
        exp,
        (4, 10),
    ),
    "log1p_terms": (lambda e: (log1p(e) - e) / e**2, mpf(0), mpf(1), lambda e, p: e + e * e * p, log1p, (9, 20)),
    "log_terms": (
        lambda s: (2 * atanh(sqrt(s)) - 2 * sqrt(s)) / sqrt(s) ** 3,
        mpf(0),
        EDGE**2,
        lambda s, p: 2 * sqrt(s) + sqrt(s) ** 3 * p,
        lambda s: 2 * atanh(sqrt(s)),
        (None, 6),
    ),
}


def lines() -> list[str]:
    """One C++ array for each polynomial and type."""
    printed = []
    for name, (f, low, high, use, exact, degrees) in POLYNOMIALS.items():
        for degree, type_name, suffix, digits in zip(degrees, ("float", "double"), ("f", ""), (10, 19), strict=True):
            if degree is None:
                continue
            c = interpolate(f, low, high, degree)
            points = [low + (high - low) * (i + mpf(1) / 3) / 500 for i in range(500)]
            bits = mp.log(max(abs(use(x, value(c, x)) / exact(x) - 1) for x in points), 2)
            numbers = ", ".join(mp.nstr(x, digits, min_fixed=0, max_fixed=0) + suffix for x in c)
            wrapped = textwrap.fill(numbers, 116, initial_indent="    ", subsequent_indent="    ")
            head = f"template <> inline constexpr {type_name} {name}<{type_name}>[] = {{"
            printed.append(f"// within 2^{mp.nstr(bits, 3)}\n{head}\n{wrapped}}};")
    return printed


if __name__ == "__main__":
    print("\n".join(lines()))
