"""The focal loss of one element and its slope: core/formula.py and native/focal.hpp in Triton, with their names.

    (a) the link        u = log sigmoid(m)     v = log sigmoid(-m)     p = e^u     q = e^v
    (b) the loss        l = -q^g u
    (c) its slope       A = dl/dm = q^g (g p u - q)
    (e) binary          m = x for label 1 and -x for label 0; soft labels have two rules, "linear" and "expected"
    (f) softmax         m_k = z_k - logsumexp of the other logits

formula.py explains why nothing is subtracted from 1, and why v carries a low part.  As in focal.hpp the functions take
exponentials, and q^g is a product at gamma 0, 1, 2 and 3.  (d), the curvature, stays with torch's operations.
"""

from __future__ import annotations

import triton
import triton.language as tl

from parfocal.backends.triton.elementary import (
    INFINITE,
    LOG_2,
    LOG_2_MISSES,
    exponential,
    inverse_of_one_plus,
    log1p,
    logarithm,
    reciprocal,
)

# Beyond |m| = 1000 every result but u has reached its limit.
FAR = tl.constexpr(1000.0)

# G, the gamma of a kernel: 0 to 3 are computed as products, ANY is a number known at run time, and BOTH are one number
# for each label.
ANY, BOTH = tl.constexpr(-1), tl.constexpr(-2)

# -- numbers that carry what rounding lost


@triton.jit
def two_sum(a, b):
    total = a + b
    b_kept = total - a
    return total, (a - (total - b_kept)) + (b - b_kept)


@triton.jit
def finite(x):
    return tl.abs(x) < INFINITE


@triton.jit
def logit_difference(a, b):
    """a - b.  Equal infinities differ by 0, and an infinite difference has lost nothing."""
    high, low = two_sum(a, -b)
    equal = a == b
    return tl.where(equal, 0.0, high), tl.where(equal | ~finite(low), 0.0, low)


@triton.jit
def times_gamma(gamma_high, gamma_low, v, v_low):
    high = gamma_high * v
    return high, tl.fma(gamma_high, v, -high) + tl.fma(gamma_low, v, gamma_high * v_low)


# -- the link and the three lines


@triton.jit
def link(m, e, m_low=None):
    """(u, v, v_low, p, q) at the margin m + m_low; `e` is exp(-|m + m_low|)."""
    log1p_high, log1p_low = log1p(e)
    inverse = inverse_of_one_plus(e)
    small, below = e * inverse, m < 0.0
    v, v_low = two_sum(tl.clamp(m, 0.0, FAR), log1p_high)
    v_low += log1p_low
    if m_low is not None:
        v_low += tl.where(below, 0.0, m_low)
    u = tl.minimum(m, 0.0) - log1p_high
    return u, -v, -v_low, tl.where(below, small, inverse), tl.where(below, inverse, small)


@triton.jit
def power_of_q(v, v_low, q, gamma_high, gamma_low, G: tl.constexpr):
    if G == 0:
        return q * 0.0 + 1.0
    elif G == 1:
        return q
    elif G == 2:
        return q * q
    elif G == 3:
        return q * q * q
    else:
        high, low = times_gamma(gamma_high, gamma_low, v, v_low)
        return exponential(high, low)


@triton.jit
def near(u):
    """u, bounded, for products with p: p is 0 long before u is infinite."""
    return tl.maximum(u, -FAR)


@triton.jit
def slope(u, p, q, q_to_g, g):
    return q_to_g * tl.fma(g * p, near(u), -q)


@triton.jit
def focal(m, e, gamma_high, gamma_low, G: tl.constexpr, m_low=None):
    """The loss at the margin m + m_low, and its slope."""
    u, v, v_low, p, q = link(m, e, m_low)
    q_to_g = power_of_q(v, v_low, q, gamma_high, gamma_low, G)
    return -(q_to_g * u), slope(u, p, q, q_to_g, gamma_high)


@triton.jit
def weighted(weight, value):
    """weight * value, where a zero weight wins over an infinite value."""
    return tl.where((weight == 0.0) & (tl.abs(value) == INFINITE), 0.0, weight * value)


# -- binary: the sign of a label's margin, and its weights; losses and slopes in x


@triton.jit
def binary_hard(x, e, positive, gamma_0, gamma_0_low, gamma_1, gamma_1_low, w_0, w_1, by_0, by_1, G: tl.constexpr):
    """For labels 1, where `positive`, and 0; `e` is exp(-|x|)."""
    gamma, gamma_low = gamma_1, gamma_1_low
    if G == BOTH:
        gamma = tl.where(positive, gamma_1, gamma_0)
        gamma_low = tl.where(positive, gamma_1_low, gamma_0_low)
    loss, a = focal(tl.where(positive, x, -x), e, gamma, gamma_low, G)
    loss *= tl.where(positive, w_1, w_0)
    if (w_0 == 0.0) | (w_1 == 0.0):  # a zero weight wins over an infinite loss
        loss = tl.where((loss != loss) & (x == x), 0.0, loss)
    return loss, tl.where(positive, by_1, -by_0) * a


@triton.jit
def binary_expected(x, e, y_1, y_0, gamma_0, gamma_0_low, gamma_1, gamma_1_low, w_0, w_1, by_0, by_1):
    """The rule "expected": y_1 w_1 l(x) + y_0 w_0 l(-x)."""
    loss_1, a_1 = focal(x, e, gamma_1, gamma_1_low, ANY)
    loss_0, a_0 = focal(-x, e, gamma_0, gamma_0_low, ANY)
    loss = weighted(y_1 * w_1, loss_1) + weighted(y_0 * w_0, loss_0)
    return loss, y_1 * by_1 * a_1 - y_0 * by_0 * a_0


@triton.jit
def log_of_mixture(size, e, log1p_high, log1p_low, near_share, far_share):
    """log n for n = (near + far e) / (1 + e), as a pair.

    Where far e is the larger, log n = -|x| + log S - log(1 + e) with S = far + near / e; otherwise S = near + far e.
    """
    far_is_larger = far_share * e > near_share
    ratio = tl.where(far_is_larger, near_share * reciprocal(tl.maximum(e, 1e-37)), far_share * e)
    s, s_low = two_sum(tl.where(far_is_larger, far_share, near_share), ratio)
    log_s, log_s_low = logarithm(s, s_low)
    high, low = two_sum(tl.where(far_is_larger, -size, 0.0), log_s)
    high, lost = two_sum(high, -log1p_high)
    return high, (low + lost) + (log_s_low - log1p_low)


@triton.jit
def binary_linear(x, e, y_1, y_0, gamma, gamma_low, w_0, w_1, by_0, by_1):
    """The rule "linear", for labels strictly between 0 and 1: formula.py derives n, d and k."""
    log1p_high, log1p_low = log1p(e)
    inverse = inverse_of_one_plus(e)
    below, size = x < 0.0, tl.abs(x)
    small = e * inverse
    p, q = tl.where(below, small, inverse), tl.where(below, inverse, small)
    near_share, far_share = tl.where(below, y_1, y_0), tl.where(below, y_0, y_1)
    mixture = tl.fma(far_share, e, near_share)  # n (1 + e)
    near_size = tl.minimum(size, FAR)
    log_n, log_n_low = log_of_mixture(near_size, e, log1p_high, log1p_low, near_share, far_share)
    high, low = times_gamma(gamma, gamma_low, log_n, log_n_low)
    n_to_g = exponential(tl.minimum(high, 0.0), low)
    cross_entropy = tl.fma(near_share, near_size, log1p_high)
    d = y_0 * p - y_1 * q
    k = (y_0 - y_1) * inverse * (e * reciprocal(tl.maximum(mixture, 1e-37)))
    loss = weighted(y_1 * w_1 + y_0 * w_0, n_to_g * tl.fma(near_share, size, log1p_high))
    return loss, (y_1 * by_1 + y_0 * by_0) * n_to_g * tl.fma(gamma * k, cross_entropy, d)


# -- softmax: the margin of a class over the others, z - (top + log total)


@triton.jit
def margin(z, top, total, total_low, doublings=None):
    """As a pair; the total is that of exponentials relative to top + doublings * log 2."""
    high, low = logit_difference(z, top)
    if doublings is not None:
        turned = doublings * LOG_2
        low -= tl.fma(doublings, LOG_2, -turned) + doublings * LOG_2_MISSES
        high, lost = two_sum(high, -turned)
        low += tl.where(finite(lost), lost, 0.0)
    log_total, log_low = logarithm(total, total_low)
    high, lost = two_sum(high, -log_total)
    low += tl.where(finite(lost), lost, 0.0) - log_low
    m = high + low
    return m, tl.where(finite(high), low - (m - high), 0.0)


@triton.jit
def exponential_of_size(m, m_low):
    """exp(-|m + m_low|)"""
    return exponential(-tl.abs(m), tl.where(m < 0.0, m_low, -m_low))
