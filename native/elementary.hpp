// Exponential and logarithms, for float and double, as straight-line code that every compiler vectorises.
//
//   (a) No branches and no calls.  Choices are selects; adding and subtracting 1.5 * 2^52 rounds to an integer; bits
//       make powers of two.
//   (b) Polynomials are summed as a tree (Estrin 1960): the latency of a chain would be twice as long.
//   (c) exponential() takes the low part of its argument, since exp() amplifies what rounding has lost.
//   (d) Results below the smallest normal number are 0.  exponential<UP>() returns the value times 2^UP, for a caller
//       that multiplies it: it is then not 0 where the product is a normal number.
//
// This file and what it includes are compiled once for each instruction set, in a namespace named after it, so that the
// linker cannot use a function compiled for one set in the code of another.  For the same reason no templates of the
// standard library are used.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#ifndef PARFOCAL_ISA
#define PARFOCAL_ISA baseline
#endif

// ELEMENT functions compute one element and are always inlined: GCC stops inlining once a file has grown by 40 %, and a
// loop that contains a call is not vectorised.  BLOCK functions loop over a block and are never inlined: inlined into a
// caller that passes its own buffers, GCC 12 forgets that restricted pointers do not overlap, and does not vectorise
// the loops.  INDEPENDENT promises that the iterations of a loop do not touch each other's memory, where there are too
// many pointers for the compiler to compare.
#if defined(_MSC_VER)
#define PARFOCAL_INDEPENDENT __pragma(loop(ivdep))
#elif defined(__clang__)
#define PARFOCAL_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define PARFOCAL_INDEPENDENT _Pragma("GCC ivdep")
#endif
#if defined(_MSC_VER)
#define PARFOCAL_ELEMENT __forceinline
#define PARFOCAL_BLOCK __declspec(noinline)
#else
#define PARFOCAL_ELEMENT inline __attribute__((always_inline))
#define PARFOCAL_BLOCK __attribute__((noinline))
#endif

namespace parfocal::PARFOCAL_ISA {

using std::size_t;

// -- the layout of the two types

template <class T>
struct Float;

template <>
struct Float<float> {
    using Bits = std::uint32_t;
    static constexpr int mantissa = 23;
    static constexpr Bits bias = 127;
    static constexpr float round = 12582912.0f;             // 1.5 * 2^23
    static constexpr float log2_high = 0.693145751953125f;  // its first 16 bits: products with an exponent are exact
    static constexpr float log2_low = 1.42860682e-6f;
    static constexpr float lowest_exponent = -87.3365f;  // log of the smallest normal number
};

template <>
struct Float<double> {
    using Bits = std::uint64_t;
    static constexpr int mantissa = 52;
    static constexpr Bits bias = 1023;
    static constexpr double round = 6755399441055744.0;      // 1.5 * 2^52
    static constexpr double log2_high = 0.6931471805601177;  // 41 bits
    static constexpr double log2_low = -1.7239444525614834773e-13;
    static constexpr double lowest_exponent = -708.396;
};

template <class T>
inline constexpr T INFINITE = T(HUGE_VAL);

// -- polynomials, as make_polynomials.py prints them
// clang-format off

template <class T> inline constexpr T exp_terms[] = {T(0)};    // exp(r) = 1 + r + r^2 P(r),      |r| <= log(2) / 2
template <class T> inline constexpr T log1p_terms[] = {T(0)};  // log(1 + e) = e + e^2 P(e),      0 <= e <= 1
template <class T> inline constexpr T log_terms[] = {T(0)};    // log(x) = 2t + t^3 P(t^2),       t = (x-1) / (x+1)

// within 2^-26.6
template <> inline constexpr float exp_terms<float>[] = {
    5.0e-1f, 1.666657699e-1f, 4.166655462e-2f, 8.363179053e-3f, 1.392618359e-3f};
// within 2^-62.1
template <> inline constexpr double exp_terms<double>[] = {
    5.0e-1, 1.666666666666667099e-1, 4.166666666666666975e-2, 8.333333333326135126e-3, 1.38888888888837483e-3,
    1.984126987482062527e-4, 2.480158732554774122e-5, 2.755725540020642443e-6, 2.755727364311029533e-7,
    2.510521700472074516e-8, 2.091468696808687723e-9};
// within 2^-28.1
template <> inline constexpr float log1p_terms<float>[] = {
    -4.999999952e-1f, 3.333323735e-1f, -2.499675991e-1f, 1.995670795e-1f, -1.636515287e-1f, 1.303336424e-1f,
    -9.139413774e-2f, 4.930997343e-2f, -1.718426698e-2f, 2.801641993e-3f};
// within 2^-56.9
template <> inline constexpr double log1p_terms<double>[] = {
    -4.999999999999999902e-1, 3.333333333333246561e-1, -2.499999999987205005e-1, 1.999999999247162995e-1,
    -1.666666643097834008e-1, 1.428570974544554454e-1, -1.249994128150768744e-1, 1.111057114285580573e-1,
    -9.996324347550136829e-2, 9.071835292534260436e-2, -8.25618541627825036e-2, 7.444817019942226839e-2,
    -6.504010366036855782e-2, 5.322352246032121438e-2, -3.91250511523394424e-2, 2.468295019168493372e-2,
    -1.273215052824767314e-2, 5.081090478548994152e-3, -1.456924847332917437e-3, 2.652959705425310437e-4,
    -2.293885681847143777e-5};
// within 2^-57.7
template <> inline constexpr double log_terms<double>[] = {
    6.666666666666669686e-1, 3.999999999989950449e-1, 2.857142862597548492e-1, 2.222221113479507986e-1,
    1.818288912526172208e-1, 1.533172160055604127e-1, 1.461644968504340586e-1};

// clang-format on
// -- arithmetic

// a * b + c: rounded once where the processor has fused multiply-add; never a library call.
template <class T>
PARFOCAL_ELEMENT T multiply_add(T a, T b, T c) {
#if defined(__FMA__) || defined(__aarch64__) || defined(_M_ARM64) || defined(__AVX2__)
    return std::fma(a, b, c);
#else
    return a * b + c;
#endif
}

// A choice between two values that are both computed: not a branch.
template <class T>
PARFOCAL_ELEMENT T select(bool condition, T yes, T no) {
    return condition ? yes : no;
}

template <class To, class From>
PARFOCAL_ELEMENT To as_bits(From value) {
    static_assert(sizeof(To) == sizeof(From));
    return __builtin_bit_cast(To, value);
}

template <class T, int N>
PARFOCAL_ELEMENT T polynomial(const T (&terms)[N], T x) {
    if constexpr (N == 1) {
        return terms[0];
    } else {
        T pairs[(N + 1) / 2] = {};
        for (int i = 0; i < N / 2; ++i) pairs[i] = multiply_add(terms[2 * i + 1], x, terms[2 * i]);
        if constexpr (N % 2) pairs[N / 2] = terms[N - 1];
        return polynomial(pairs, x * x);
    }
}

// -- functions

// A slope reaches 1.46 (gamma 10), so its product with an exponential may be a normal number where the exponential is
// not.
inline constexpr int UP = 24;
template <class T>
inline constexpr T TWO_TO_UP = T(1 << UP);
template <class T>
inline constexpr T DOWN = T(1) / T(1 << UP);

// exp(high + low) * 2^scale for high <= 0.
template <int scale = 0, class T>
PARFOCAL_ELEMENT T exponential(T high, T low = T(0)) {
    constexpr T log2 = T(0.6931471805599453);
    using F = Float<T>;
    const T shifted = multiply_add(high, T(1.4426950408889634074), F::round);  // its lowest bits are the exponent
    const T exponent = shifted - F::round;
    const T r = multiply_add(exponent, -F::log2_high, high) + multiply_add(exponent, -F::log2_low, low);
    const T value = T(1) + multiply_add(r * r, polynomial(exp_terms<T>, r), r);
    const auto biased = as_bits<typename F::Bits>(shifted) - as_bits<typename F::Bits>(F::round) + (F::bias + scale);
    const T power = as_bits<T>(typename F::Bits(biased << F::mantissa));
    return select(high < F::lowest_exponent - scale * log2, T(0), value * power);
}

// A number, and what rounding lost of it.
template <class T>
struct Sum {
    T high, low;
};

// log(1 + e) for 0 <= e <= 1.
template <class T>
PARFOCAL_ELEMENT Sum<T> log1p(T e) {
    const T rest = e * e * polynomial(log1p_terms<T>, e), sum = e + rest;
    return {sum, rest - (sum - e)};
}

// log(x) for x >= 0 as a pair that is exact to about 2^-57 whatever its size; log(0) is -infinity.
PARFOCAL_ELEMENT Sum<double> logarithm(double x) {
    constexpr std::uint64_t root_half = 0x3fe6a09e667f3bcd, one = 0x3ff0000000000000, mantissa = 0x000fffffffffffff;
    constexpr double two_54 = 18014398509481984.0;
    const bool tiny = x < 2.2250738585072014e-308;  // below the normal numbers
    const std::uint64_t bits = as_bits<std::uint64_t>(select(tiny, x * two_54, x)) + (one - root_half);
    // The exponent field as a double, made in the low bits of 2^52: AVX2 cannot convert 64-bit integers.
    const double field = as_bits<double>((bits >> 52) | 0x4330000000000000) - 4503599627370496.0;
    const double exponent = field - select(tiny, 1077.0, 1023.0);
    const double f = as_bits<double>((bits & mantissa) + root_half);  // sqrt(1/2) <= f < sqrt(2)
    const double t = (f - 1.0) / (f + 1.0), s = t * t;
    const double rest = multiply_add(t * s, polynomial(log_terms<double>, s), 2.0 * t);
    const double high = exponent * Float<double>::log2_high;
    const double low = multiply_add(exponent, Float<double>::log2_low, rest);
    const double sum = high + low, kept = sum - high;
    const double lost = (high - (sum - kept)) + (low - kept);
    return {select(x == 0.0, -INFINITE<double>, select(x == x, sum, x)), select(x > 0.0, lost, 0.0)};
}

}  // namespace parfocal::PARFOCAL_ISA
