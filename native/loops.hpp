// One pass over memory for binary losses; softmax.hpp has the softmax losses.
//
//   (a) A block of samples is read, computed and written while it is in the first-level cache.
//   (b) A block is computed in two short loops, exponentials first: one long chain of dependent instructions exceeds
//       what a processor can reorder.  Logits in cache, gamma 2, AVX-512: 0.84 ns each in one loop, 0.60 in two.
//   (c) Labels are checked before a block is computed.  Blocks with labels between 0 and 1 are computed in double,
//       whatever the type of the logits: 1 - y needs the digits.
//   (d) The sum over a block is a tree, whose last 64 numbers are added in double.  The sum over blocks is compensated.
#pragma once

#include <cstdlib>

#include "arrays.hpp"
#include "focal.hpp"

namespace parfocal::PARFOCAL_ISA {

// Samples in a block: seven buffers of doubles are 56 KB.  The speed is the same from 512 to 2048.
inline constexpr size_t BLOCK = 1024;

inline size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

// Memory for the buffers of one chunk.
class Scratch {
  public:
    explicit Scratch(size_t bytes) : memory(std::malloc(bytes + 64)), next(static_cast<char*>(memory)) {}
    ~Scratch() { std::free(memory); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    explicit operator bool() const { return memory != nullptr; }

    template <class T>
    T* take(size_t n) {
        next += (64 - reinterpret_cast<std::uintptr_t>(next) % 64) % 64;
        T* taken = reinterpret_cast<T*>(next);
        next += n * sizeof(T);
        return taken;
    }

  private:
    void* memory;
    char* next;
};

// -- sums

// The sum of n <= BLOCK numbers.  Halves are added in type T until 64 numbers are left: equal numbers add up exactly,
// others with 4 roundings.  The 64 are added in double.  `tree` holds BLOCK / 2 numbers.
template <class T>
PARFOCAL_BLOCK double tree_sum(const T* __restrict values, const size_t count, T* __restrict tree) {
    const T* from = values;
    size_t n = count;
    while (n > 64) {
        const size_t half = (n + 1) / 2;
        PARFOCAL_INDEPENDENT
        for (size_t i = 0; i < n / 2; ++i) tree[i] = from[i] + from[half + i];
        if (n % 2) tree[n / 2] = from[n / 2];
        from = tree;
        n = half;
    }
    double lanes[8] = {};
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t l = 0; l < 8; ++l) lanes[l] += double(from[i + l]);
    for (; i < n; ++i) lanes[i % 8] += double(from[i]);
    double sum = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
    if (!finite(sum)) {  // it may have overflowed in type T alone
        sum = 0.0;
        for (size_t k = 0; k < count; ++k) sum += double(values[k]);
    }
    return sum;
}

// Adds a value to a running sum, and keeps what rounding lost (Neumaier 1974).
inline void add(Result& result, double value) {
    const Sum<double> sum = two_sum(result.sum, value);
    result.sum = sum.high;
    result.lost += finite(sum.low) ? sum.low : 0.0;
}

// -- labels

// Whether some labels lie strictly between 0 and 1.  Notes the position of the first invalid one.  Nearly always all
// labels are 0 or 1, so that is checked first.
template <class T>
PARFOCAL_BLOCK bool any_soft(const T* labels, size_t start, size_t n, Result& result) {
    unsigned other = 0;
    for (size_t i = 0; i < n; ++i) other |= unsigned(labels[i] != T(0)) & unsigned(labels[i] != T(1));
    if (!other) return false;
    for (size_t i = 0; i < n; ++i)
        if (!(labels[i] >= T(0) && labels[i] <= T(1))) {
            if (result.bad_label < 0) result.bad_label = std::int64_t(start + i);
            return false;  // after an invalid label no result is used
        }
    return true;
}

// -- weights

template <class T>
void apply_weights(const T* __restrict weights, size_t n, T* __restrict values) {
    for (size_t i = 0; i < n; ++i) values[i] = weighted(weights[i], values[i]);
}

// -- binary

template <int G, Order order, class T>
PARFOCAL_BLOCK void hard_block(const T* __restrict x, const T* __restrict y, size_t n, const BinaryConstants<T>& given,
                               T* __restrict e, T* __restrict loss, T* __restrict gradient, T* __restrict curvature) {
    const BinaryConstants<T> with = given;
    for (size_t i = 0; i < n; ++i) e[i] = exponential(-std::fabs(x[i]));
    for (size_t i = 0; i < n; ++i) {
        const Focal<T> terms = binary_hard<G, order>(x[i], y[i], e[i], with);
        loss[i] = terms.loss;
        gradient[i] = terms.slope;
        if constexpr (order != Order::gradient) curvature[i] = terms.curvature;
    }
    if (with.loss_0 == T(0) || with.loss_1 == T(0))  // a zero weight wins over an infinite loss
        for (size_t i = 0; i < n; ++i) loss[i] = select(loss[i] != loss[i] && x[i] == x[i], T(0), loss[i]);
}

// A booster's logits are doubles and its results floats.  They are computed in float from pairs of floats that hold the
// logits; beyond this logit in double, because p underflows in float, and the curvature needs it.  A million margins,
// gamma 2, AVX2: 3.2 ms, and 7.8 ms if all are computed in double.
inline constexpr double FAR_FOR_FLOAT = 87.0;

PARFOCAL_BLOCK inline bool any_far(const double* x, size_t n) {
    unsigned far = 0;
    for (size_t i = 0; i < n; ++i) far |= unsigned(std::fabs(x[i]) > FAR_FOR_FLOAT);
    return far != 0;
}

template <int G, Order order>
PARFOCAL_BLOCK void paired_block(const double* __restrict x, const float* __restrict y, size_t n,
                                 const BinaryConstants<float>& given, float* __restrict high, float* __restrict low,
                                 float* __restrict e, float* __restrict loss, float* __restrict gradient,
                                 float* __restrict curvature) {
    const BinaryConstants<float> with = given;
    for (size_t i = 0; i < n; ++i) {
        high[i] = float(x[i]);
        low[i] = float(x[i] - double(high[i]));
    }
    for (size_t i = 0; i < n; ++i) e[i] = exponential_of_size(Sum<float>{high[i], low[i]});
    for (size_t i = 0; i < n; ++i) {
        const Focal<float> terms = binary_hard<G, order>(high[i], y[i], e[i], with, low[i]);
        loss[i] = terms.loss;
        gradient[i] = terms.slope;
        curvature[i] = terms.curvature;
    }
}

// Labels in [0, 1], among them hard ones.
template <Order order>
PARFOCAL_BLOCK void soft_block(const double* __restrict x, const double* __restrict y, size_t n,
                               const BinaryConstants<double>& given, bool expected, double* __restrict e,
                               double* __restrict loss, double* __restrict gradient, double* __restrict curvature) {
    const BinaryConstants<double> with = given;
    for (size_t i = 0; i < n; ++i) e[i] = exponential(-std::fabs(x[i]));
    if (expected) {
        for (size_t i = 0; i < n; ++i) {
            const Focal<double> terms = binary_expected<order>(x[i], y[i], e[i], with);
            loss[i] = terms.loss;
            gradient[i] = terms.slope;
            if constexpr (order != Order::gradient) curvature[i] = terms.curvature;
        }
        return;
    }
    for (size_t i = 0; i < n; ++i) {
        // Hard labels are the limit of soft ones, at which the formula of soft labels divides 0 by 0.
        const bool is_hard = y[i] == 0.0 || y[i] == 1.0;
        Focal<double> hard = binary_hard<ANY, order>(x[i], y[i], e[i], with);
        hard.loss = select(hard.loss != hard.loss && x[i] == x[i], 0.0, hard.loss);
        const Focal<double> soft = binary_linear<order>(x[i], select(is_hard, 0.5, y[i]), e[i], with);
        loss[i] = select(is_hard, hard.loss, soft.loss);
        gradient[i] = select(is_hard, hard.slope, soft.slope);
        if constexpr (order != Order::gradient) curvature[i] = select(is_hard, hard.curvature, soft.curvature);
    }
}

template <class T>
BinaryConstants<T> constants(const BinaryJob& job) {
    return {Gamma<T>(job.gamma_0), Gamma<T>(job.gamma_1),       T(job.weight_0),
            T(job.weight_1),       T(job.weight_0 * job.scale), T(job.weight_1 * job.scale)};
}

// The gamma of both labels if it is 0, 1, 2 or 3 for both; otherwise ANY.
inline int small_gamma(double gamma_0, double gamma_1) {
    for (int small = 0; small < 4; ++small)
        if (gamma_0 == small && gamma_1 == small) return small;
    return ANY;
}

// Calls f(Constant<G>()) for the G that small_gamma() returned.  The exact curvature is not performance-critical, so it
// has no gamma specialisations.
template <int G>
struct Constant {
    static constexpr int value = G;
};
template <Order order, class F>
void dispatch(int gamma, F f) {
    if constexpr (order != Order::curvature) switch (gamma) {
            case 0: return f(Constant<0>());
            case 1: return f(Constant<1>());
            case 2: return f(Constant<2>());
            case 3: return f(Constant<3>());
        }
    f(Constant<ANY>());
}

// Samples `begin` to `end` of a job, computed in type T.
template <Order order, class T>
void binary_chunk(const BinaryJob& job, size_t begin, size_t end, Result& result) {
    const size_t most = smaller(BLOCK, end - begin);
    const bool soft_labels = job.y.type <= Type::float64 || job.label_smoothing != 0.0;
    constexpr bool paired = order == Order::boosting && sizeof(T) == 4;
    // x, its low part, y, e, loss, gradient, curvature and weights; six of them also in double where that may be
    // needed; and half a tree.
    const size_t doubles = soft_labels || paired ? 6 : 0;
    Scratch scratch(most * (8 * sizeof(T) + doubles * sizeof(double)) + BLOCK / 2 * sizeof(T) + 15 * 64);
    if (!scratch) {
        result.no_memory = true;
        return;
    }
    T *x_buffer = scratch.take<T>(most), *y_buffer = scratch.take<T>(most), *e = scratch.take<T>(most);
    T *loss_buffer = scratch.take<T>(most), *gradient_buffer = scratch.take<T>(most),
      *curvature_buffer = scratch.take<T>(most);
    T *weight_buffer = scratch.take<T>(most), *low_buffer = scratch.take<T>(most);
    T* tree = scratch.take<T>(BLOCK / 2);
    double* wide[6] = {};
    for (size_t k = 0; k < doubles; ++k) wide[k] = scratch.take<double>(most);

    const BinaryConstants<T> with = constants<T>(job);
    const BinaryConstants<double> with_wide = constants<double>(job);
    const int gamma = small_gamma(job.gamma_0, job.gamma_1);
    for (size_t start = begin; start < end; start += BLOCK) {
        const size_t n = smaller(BLOCK, end - start);
        T* loss = place_for(job.loss, start, loss_buffer);
        T* gradient = place_for(job.gradient, start, gradient_buffer);
        T* curvature = place_for(job.curvature, start, curvature_buffer);

        const T* y = y_buffer;
        bool soft;
        if (sizeof(T) == 4 && job.y.type == Type::float64) {  // as a float, 1 - 1e-12 would be a hard label
            const double* given = block_of(job.y, start, n, wide[1]);
            soft = any_soft(given, start, n, result);
            for (size_t i = 0; i < n; ++i) y_buffer[i] = T(given[i]);
        } else {
            y = block_of(job.y, start, n, y_buffer);
            soft = any_soft(y, start, n, result);
        }
        result.soft_label |= soft;
        soft |= job.label_smoothing != 0.0;
        const bool in_double = soft || (paired && any_far(block_of(job.x, start, n, wide[0]), n));
        if (in_double) {
            load(job.x.data, job.x.type, ptrdiff_t(start) * job.x.stride, job.x.stride, n, wide[0]);
            load(job.y.data, job.y.type, ptrdiff_t(start) * job.y.stride, job.y.stride, n, wide[1]);
            const double s = job.label_smoothing;
            for (size_t i = 0; i < n; ++i) wide[1][i] = wide[1][i] * (1.0 - s) + 0.5 * s;
            if (soft)
                soft_block<order>(wide[0], wide[1], n, with_wide, job.expected, wide[2], wide[3], wide[4], wide[5]);
            else
                hard_block<ANY, order>(wide[0], wide[1], n, with_wide, wide[2], wide[3], wide[4], wide[5]);
            for (size_t i = 0; i < n; ++i) loss[i] = T(wide[3][i]);
            for (size_t i = 0; i < n; ++i) gradient[i] = T(wide[4][i]);
            if (order != Order::gradient)
                for (size_t i = 0; i < n; ++i) curvature[i] = T(wide[5][i]);
        } else if constexpr (paired) {
            const double* x = block_of(job.x, start, n, wide[0]);
            dispatch<order>(gamma, [&](auto g) {
                paired_block<g.value, order>(x, y, n, with, x_buffer, low_buffer, e, loss, gradient, curvature);
            });
        } else {
            const T* x = block_of(job.x, start, n, x_buffer);
            dispatch<order>(gamma,
                            [&](auto g) { hard_block<g.value, order>(x, y, n, with, e, loss, gradient, curvature); });
        }
        if (job.weight.data) {
            const T* weights = block_of(job.weight, start, n, weight_buffer);
            apply_weights(weights, n, loss);
            apply_weights(weights, n, gradient);
            if (order != Order::gradient) apply_weights(weights, n, curvature);
        }
        if (job.cotangent.data) {
            const T* weights = block_of(job.cotangent, start, n, weight_buffer);
            apply_weights(weights, n, gradient);
            if (order != Order::gradient) apply_weights(weights, n, curvature);
        }
        add(result, tree_sum(loss, n, tree));
        write_back(job.loss, start, n, loss, loss_buffer);
        write_back(job.gradient, start, n, gradient, gradient_buffer);
        write_back(job.curvature, start, n, curvature, curvature_buffer);
    }
}

}  // namespace parfocal::PARFOCAL_ISA
