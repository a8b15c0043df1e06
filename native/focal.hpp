// The focal loss of one element, its slope and its curvature: core/formula.py in C++, with its names, in its order.
//
//     (a) the link        u = log sigmoid(m)     v = log sigmoid(-m)     p = e^u     q = e^v
//     (b) the loss        l = -q^g u
//     (c) its slope       A = dl/dm = q^g (g p u - q)
//     (d) its curvature   C = d2l/dm2 = p q^g [q (1 + g (u + 2)) - g^2 p u]
//     (e) binary          m = x for label 1 and -x for label 0; soft labels have two rules, "linear" and "expected"
//     (f) softmax         m_k = z_k - logsumexp of the other logits
//
// formula.py explains why nothing is subtracted from 1, why v carries a low part, and what each function returns.  The
// differences: the functions here take exponentials, which the loops compute beforehand; q^g is a product at gamma 0,
// 1, 2 and 3; and softmax.hpp and dense.hpp loop over the classes of a softmax.
#pragma once

#include "elementary.hpp"

namespace parfocal::PARFOCAL_ISA {

// Beyond |m| = 1000 every result but u has reached its limit.
template <class T>
inline constexpr T FAR = T(1000);

// gamma as the template argument of a loop: 0 to 3 are computed as products, ANY is a number known at run time.
inline constexpr int ANY = -1;

// The highest derivative that is computed.  `boosting`: the gradient and the positive curvature.
enum class Order { gradient, curvature, boosting };

// -- numbers that carry what rounding lost

template <class T>
PARFOCAL_ELEMENT Sum<T> two_sum(T a, T b) {
    const T total = a + b, b_kept = total - a;
    return {total, (a - (total - b_kept)) + (b - b_kept)};
}

template <class T>
PARFOCAL_ELEMENT bool finite(T x) {
    return std::fabs(x) < INFINITE<T>;
}

// a - b.  Equal infinities differ by 0, and an infinite difference has lost nothing.
template <class T>
PARFOCAL_ELEMENT Sum<T> logit_difference(T a, T b) {
    const Sum<T> sum = two_sum(a, -b);
    const bool equal = a == b;
    return {select(equal, T(0), sum.high), select(!equal && finite(sum.low), sum.low, T(0))};
}

// gamma in the working type, and the part of it that the type cannot hold.
template <class T>
struct Gamma {
    T high, low;
    Gamma() = default;
    explicit Gamma(double gamma) : high(T(gamma)), low(T(gamma - double(T(gamma)))) {}
};

// What a * b lost when it was rounded (Dekker 1971 where the processor has no fused multiply-add).
template <class T>
PARFOCAL_ELEMENT T product_error(T a, T b, T product) {
#if defined(__FMA__) || defined(__aarch64__) || defined(_M_ARM64) || defined(__AVX2__)
    return std::fma(a, b, -product);
#else
    const T cut = T(sizeof(T) == 8 ? 134217729.0 : 4097.0);  // 2^27 + 1, 2^12 + 1
    const T a_cut = a * cut, a_high = a_cut - (a_cut - a), a_low = a - a_high;
    const T b_cut = b * cut, b_high = b_cut - (b_cut - b), b_low = b - b_high;
    return ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low;
#endif
}

template <class T>
PARFOCAL_ELEMENT Sum<T> times_gamma(Gamma<T> gamma, T v, T v_low) {
    const T high = gamma.high * v;
    return {high, product_error(gamma.high, v, high) + (gamma.low * v + gamma.high * v_low)};
}

// -- the link and the three lines

template <class T>
struct Link {
    T u, v, v_low, p, q, e;
};

// `e` is exp(-|m + m_low|).
template <class T>
PARFOCAL_ELEMENT Link<T> link(T m, T e, T m_low = T(0)) {
    const bool below = m < T(0);
    const Sum<T> log1p_e = log1p(e);
    const T sum = T(1) + e, rounded = T(1) / sum;
    const T inverse =
        multiply_add(rounded * rounded, (sum - T(1)) - e, rounded);  // corrects for what rounding the sum lost
    const T size = std::fabs(m), small = e * inverse;
    const Sum<T> v = two_sum(select(below, T(0), select(size > FAR<T>, FAR<T>, m)), log1p_e.high);
    Link<T> at;
    at.u = -(select(below, size, T(0)) + log1p_e.high);
    at.v = -v.high;
    at.v_low = -((v.low + log1p_e.low) + select(below, T(0), m_low));
    at.p = select(below, small, inverse);
    at.q = select(below, inverse, small);
    at.e = e;
    return at;
}

template <int G, class T>
PARFOCAL_ELEMENT T power_of_q(const Link<T>& at, Gamma<T> gamma) {
    if constexpr (G == 0) return T(1);
    if constexpr (G == 1) return at.q;
    if constexpr (G == 2) return at.q * at.q;
    if constexpr (G == 3) return at.q * at.q * at.q;
    const Sum<T> exponent = times_gamma(gamma, at.v, at.v_low);
    return exponential(exponent.high, exponent.low);
}

// u, bounded, for products with p: p is 0 long before u is infinite.  The bits of positive floats are ordered as the
// floats are, and an integer minimum is one instruction; for 64 bits only AVX-512 has it.
template <class T>
PARFOCAL_ELEMENT T near(T u) {
    if constexpr (sizeof(T) == 8) return select(u < -FAR<T>, -FAR<T>, u);
    using Bits = typename Float<T>::Bits;
    const Bits size = as_bits<Bits>(-u), far = as_bits<Bits>(FAR<T>);
    return -as_bits<T>(size < far ? size : far);
}

template <class T>
PARFOCAL_ELEMENT T slope(const Link<T>& at, T q_to_g, T g) {
    return q_to_g * (g * at.p * near(at.u) - at.q);
}

// `root` is exp(min(m, 0) / 2).  p may underflow where C does not, because |bracket| grows like g |m|; so multiply by
// the square root of p twice.
template <class T>
PARFOCAL_ELEMENT T curvature(const Link<T>& at, T q_to_g, T g, T root) {
    const T u = near(at.u);
    const T bracket = at.q * (T(1) + g * (u + T(2))) - g * g * at.p * u;
    return (q_to_g * bracket * root) * (root / (T(1) + at.e));
}

// C without its only negative term.
template <class T>
PARFOCAL_ELEMENT T positive_curvature(const Link<T>& at, T q_to_g, T g) {
    return q_to_g * at.p * (at.q * (T(1) + T(2) * g) - g * g * at.p * near(at.u));
}

// exp(min(m, 0) / 2) at m + m_low
template <class T>
PARFOCAL_ELEMENT T root_of_p(T m, T m_low = T(0)) {
    const bool below = m < T(0);
    return exponential(select(below, m / T(2), T(0)), select(below, m_low / T(2), T(0)));
}

// Loss, slope and curvature at one margin.  The curvature is C, or its positive part for boosting.
template <class T>
struct Focal {
    T loss, slope, curvature;
};

template <int G, Order order, class T>
PARFOCAL_ELEMENT Focal<T> focal(T m, T e, Gamma<T> gamma, T m_low = T(0)) {
    const Link<T> at = link(m, e, m_low);
    const T q_to_g = power_of_q<G>(at, gamma);
    Focal<T> terms{-(q_to_g * at.u), slope(at, q_to_g, gamma.high), T(0)};
    if constexpr (order == Order::curvature) terms.curvature = curvature(at, q_to_g, gamma.high, root_of_p(m, m_low));
    if constexpr (order == Order::boosting) terms.curvature = positive_curvature(at, q_to_g, gamma.high);
    return terms;
}

// weight * value, where a zero weight wins over an infinite value.
template <class T>
PARFOCAL_ELEMENT T weighted(T weight, T value) {
    return select(weight == T(0) && std::fabs(value) == INFINITE<T>, T(0), weight * value);
}

// -- binary: the sign of a label's margin, and its weights

template <class T>
struct BinaryConstants {
    Gamma<T> gamma_0, gamma_1;
    T loss_0, loss_1;    // factors of the loss of label 0 and 1
    T slope_0, slope_1;  // factors of its gradient and curvature: the same, times the scale of the reduction
};

// Labels 0 and 1.  `e` is exp(-|x + x_low|).
template <int G, Order order, class T>
PARFOCAL_ELEMENT Focal<T> binary_hard(T x, T y, T e, const BinaryConstants<T>& with, T x_low = T(0)) {
    const bool positive = y != T(0);
    Gamma<T> gamma = with.gamma_1;
    if constexpr (G == ANY) {
        gamma.high = select(positive, with.gamma_1.high, with.gamma_0.high);
        gamma.low = select(positive, with.gamma_1.low, with.gamma_0.low);
    }
    const Focal<T> at = focal<G, order>(select(positive, x, -x), e, gamma, select(positive, x_low, -x_low));
    const T by = select(positive, with.slope_1, with.slope_0);
    return {select(positive, with.loss_1, with.loss_0) * at.loss, select(positive, by, -by) * at.slope,
            by * at.curvature};
}

// The rule "expected": y w_1 l(x) + (1 - y) w_0 l(-x).
template <Order order>
PARFOCAL_ELEMENT Focal<double> binary_expected(double x, double y, double e, const BinaryConstants<double>& with) {
    const Focal<double> one = focal<ANY, order>(x, e, with.gamma_1), zero = focal<ANY, order>(-x, e, with.gamma_0);
    const double no = 1.0 - y;
    return {weighted(y * with.loss_1, one.loss) + weighted(no * with.loss_0, zero.loss),
            y * with.slope_1 * one.slope - no * with.slope_0 * zero.slope,
            y * with.slope_1 * one.curvature + no * with.slope_0 * zero.curvature};
}

// The rule "linear", for labels strictly between 0 and 1: formula.py derives n, d, k and s.
// For boosting the curvature is that of "expected", which is positive.
template <Order order>
PARFOCAL_ELEMENT Focal<double> binary_linear(double x, double y, double e, const BinaryConstants<double>& with) {
    const Link<double> at = link(x, e);
    const double p = at.p, q = at.q, g = with.gamma_1.high, no = 1.0 - y, size = std::fabs(x), sum = 1.0 + e;
    const bool below = x < 0.0;
    const double near_share = select(below, y, no), far_share = select(below, no, y);
    const double mixture = near_share + far_share * e;  // n (1 + e)
    const double n = mixture / sum, log1p_e = log1p(e).high;
    const Sum<double> log_n = logarithm(n);
    const Sum<double> exponent = times_gamma(with.gamma_1, log_n.high, log_n.low);
    const double n_to_g = exponential(select(exponent.high > 0.0, 0.0, exponent.high), exponent.low);
    const double cross_entropy = near_share * select(size > FAR<double>, FAR<double>, size) + log1p_e;
    const double d = no * p - y * q, k = (1.0 - 2.0 * y) / sum * (e / mixture);
    const double by = (y * with.slope_1 + no * with.slope_0) * n_to_g;
    Focal<double> terms{weighted(y * with.loss_1 + no * with.loss_0, n_to_g * (near_share * size + log1p_e)),
                        by * (d + g * k * cross_entropy), 0.0};
    if constexpr (order == Order::curvature) {
        const double s = (y * q * q - no * p * p) / n, root = exponential(-size / 2.0);
        const double k_over_root = (1.0 - 2.0 * y) / sum * (root / mixture);
        const double bracket = root / (sum * sum) + g * k_over_root * (2.0 * d + cross_entropy * (s + g * k));
        terms.curvature = (by * bracket) * root;
    }
    if constexpr (order == Order::boosting) terms.curvature = binary_expected<order>(x, y, e, with).curvature;
    return terms;
}

// -- softmax: the margin of a class over the others, z - (top + log total)

PARFOCAL_ELEMENT Sum<double> margin(double z, double top, double total) {
    const Sum<double> difference = logit_difference(z, top);
    const Sum<double> log_total = logarithm(total);
    const Sum<double> m = two_sum(difference.high, -log_total.high);
    return {m.high, difference.low + select(finite(m.low), m.low, 0.0) - log_total.low};
}

// exp(-|m|)
template <class T>
PARFOCAL_ELEMENT T exponential_of_size(Sum<T> m) {
    return exponential(-std::fabs(m.high), select(m.high < T(0), m.low, -m.low));
}

// A divisor: 1 in place of 0.  The numerator is 0 as well there.
PARFOCAL_ELEMENT double or_one(double total) { return select(total == 0.0, 1.0, total); }

}  // namespace parfocal::PARFOCAL_ISA
