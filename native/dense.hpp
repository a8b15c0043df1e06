// Softmax rows with weight on several classes: dense() of core/softmax.py on transposed rows, in double.
#pragma once

#include "rows.hpp"

namespace parfocal::PARFOCAL_ISA {

// -- several classes a row.  Sums over the classes carry what rounding lost; without it 1,000 equal ones cost 2e-14.

// For each class of n transposed rows: the sum over the other classes, without the class `out` of the row (LEFT_OUT:
// nothing is left out).  Only for the largest class does total - value lose digits, so its sum is added up separately.
inline PARFOCAL_BLOCK void sum_of_others(const double* __restrict values, size_t classes, size_t n,
                                         const int* __restrict out, double* __restrict others) {
    double top[ROWS], below[ROWS], lost[ROWS];
    int largest_class[ROWS];
    PARFOCAL_INDEPENDENT
    for (size_t r = 0; r < n; ++r) top[r] = below[r] = lost[r] = 0.0;
    PARFOCAL_INDEPENDENT
    for (size_t r = 0; r < n; ++r) largest_class[r] = LEFT_OUT;
    for (int k = 0; k < int(classes); ++k) {
        PARFOCAL_INDEPENDENT
        for (size_t r = 0; r < n; ++r) {
            const double value = select(k == out[r], 0.0, values[size_t(k) * n + r]);
            const bool larger = std::fabs(value) > std::fabs(top[r]);
            const Sum<double> sum = two_sum(below[r], select(larger, top[r], value));
            below[r] = sum.high;
            lost[r] += sum.low;
            top[r] = select(larger, value, top[r]);
            largest_class[r] = larger ? k : largest_class[r];
        }
    }
    PARFOCAL_INDEPENDENT
    for (size_t r = 0; r < n; ++r) below[r] += lost[r];
    for (int k = 0; k < int(classes); ++k) {
        PARFOCAL_INDEPENDENT
        for (size_t r = 0; r < n; ++r) {
            const double value = select(k == out[r], 0.0, values[size_t(k) * n + r]);
            others[size_t(k) * n + r] = select(k == largest_class[r], below[r], top[r] + (below[r] - value));
        }
    }
}

// Buffers of dense_block().  z and y hold transposed logits and labels first, gradient and curvature in the end.
// e and e_second hold exponentials times 2^UP until the gradient is written.
struct Dense {
    static constexpr size_t BUFFERS = 10;
    double *z, *y, *e, *e_second, *total, *rest, *own, *curvature, *a, *c;
    Dense(Scratch& scratch, size_t size)
        : z(scratch.take<double>(size)),
          y(scratch.take<double>(size)),
          e(scratch.take<double>(size)),
          e_second(scratch.take<double>(size)),
          total(scratch.take<double>(size)),
          rest(scratch.take<double>(size)),
          own(scratch.take<double>(size)),
          curvature(scratch.take<double>(size)),
          a(scratch.take<double>(size)),
          c(scratch.take<double>(size)) {}
};

template <Order order>
PARFOCAL_BLOCK void dense_block(const SoftmaxJob& job, size_t n, const Dense& d, Block& b) {
    const size_t classes = job.classes;
    const int K = int(classes);
    double first_z[ROWS], second_z[ROWS], second_total[ROWS], m_high[ROWS], m_low[ROWS], lost[ROWS];
    int none[ROWS];
    // The largest logit of a row, its class, and the largest of the others.
    PARFOCAL_INDEPENDENT
    for (size_t r = 0; r < n; ++r) {
        first_z[r] = d.z[r];
        second_z[r] = -INFINITE<double>;
        b.first[r] = 0;
        none[r] = LEFT_OUT;
        second_total[r] = b.loss[r] = lost[r] = 0.0;
    }
    for (int k = 1; k < K; ++k) {
        PARFOCAL_INDEPENDENT
        for (size_t r = 0; r < n; ++r) {
            const double z = d.z[size_t(k) * n + r];
            const bool larger = z > first_z[r];
            const double smaller_one = select(larger, first_z[r], z);
            second_z[r] = select(smaller_one > second_z[r], smaller_one, second_z[r]);
            first_z[r] = select(larger, z, first_z[r]);
            b.first[r] = larger ? k : b.first[r];
        }
    }
    PARFOCAL_INDEPENDENT
    for (size_t r = 0; r < n; ++r) second_z[r] = select(second_z[r] == -INFINITE<double>, 0.0, second_z[r]);
    for (int k = 0; k < K; ++k) {
        PARFOCAL_INDEPENDENT
        for (size_t r = 0; r < n; ++r) {
            const size_t i = size_t(k) * n + r;
            const Sum<double> from_first = logit_difference(d.z[i], first_z[r]);
            const Sum<double> from_second = logit_difference(d.z[i], second_z[r]);
            d.e[i] = exponential<UP>(from_first.high, from_first.low);
            d.e_second[i] = select(k == b.first[r], 0.0, exponential<UP>(from_second.high, from_second.low));
            const Sum<double> sum = two_sum(second_total[r], d.e_second[i]);
            second_total[r] = sum.high;
            lost[r] += sum.low;
        }
    }
    PARFOCAL_INDEPENDENT
    for (size_t r = 0; r < n; ++r) second_total[r] = (second_total[r] + lost[r]) * DOWN<double>;
    for (size_t r = 0; r < n; ++r) lost[r] = 0.0;
    sum_of_others(d.e, classes, n, none, d.total);
    // The slope and the curvature of every class at its own margin.
    for (int k = 0; k < K; ++k) {
        const double alpha = job.alpha[job.alpha_for_each ? k : 0], s = job.label_smoothing;
        const Gamma<double> gamma(job.gamma[job.gamma_for_each ? k : 0]);
        PARFOCAL_INDEPENDENT
        for (size_t r = 0; r < n; ++r) {
            const size_t i = size_t(k) * n + r;
            const bool is_first = k == b.first[r];
            d.total[i] = select(is_first, 1.0, d.total[i] * DOWN<double>);
            const Sum<double> m = margin(d.z[i], select(is_first, second_z[r], first_z[r]),
                                         select(is_first, second_total[r], d.total[i]));
            m_high[r] = m.high;
            m_low[r] = m.low;
        }
        PARFOCAL_INDEPENDENT
        for (size_t r = 0; r < n; ++r) {
            const size_t i = size_t(k) * n + r;
            const Sum<double> m{m_high[r], m_low[r]};
            const Focal<double> at = focal<ANY, order>(m.high, exponential_of_size(m), gamma, m.low);
            const double weight = alpha * (d.y[i] * (1.0 - s) + s / double(classes)) * b.weight[r];
            const Sum<double> sum = two_sum(b.loss[r], weighted(weight, at.loss));
            b.loss[r] = sum.high;
            lost[r] += select(finite(sum.high), sum.low, 0.0);
            d.own[i] = weight * at.slope;
            d.curvature[i] = weight * at.curvature;
            d.a[i] = select(k == b.first[r], 0.0, d.own[i] / d.total[i]);
        }
    }
    PARFOCAL_INDEPENDENT
    for (size_t r = 0; r < n; ++r) b.loss[r] += lost[r];
    // r_kj is e_j / total_k for every class k but the first, whose r is e_second / second_total.
    sum_of_others(d.a, classes, n, b.first, d.c);
    double first_own[ROWS], first_curvature[ROWS], by[ROWS];
    PARFOCAL_INDEPENDENT
    for (size_t r = 0; r < n; ++r) {
        const size_t i = size_t(b.first[r]) * n + r;
        first_own[r] = d.own[i];
        first_curvature[r] = d.curvature[i];
        by[r] = b.cotangent[r] * job.scale;
    }
    for (int k = 0; k < K; ++k) {
        PARFOCAL_INDEPENDENT
        for (size_t r = 0; r < n; ++r) {
            const size_t i = size_t(k) * n + r;
            const double r_first = d.e_second[i] / or_one(second_total[r]);
            d.z[i] = by[r] * (d.own[i] - (d.e[i] * d.c[i] + first_own[r] * r_first) * DOWN<double>);
        }
    }
    if constexpr (order != Order::gradient) {
        for (size_t i = 0; i < classes * n; ++i) d.e[i] *= DOWN<double>;
        for (size_t i = 0; i < classes * n; ++i) d.e_second[i] *= DOWN<double>;
        double top[ROWS];
        PARFOCAL_INDEPENDENT
        for (size_t r = 0; r < n; ++r) top[r] = 0.0;
        sum_of_others(d.e, classes, n, b.first, d.rest);  // of the classes other than the first and k
        for (int k = 0; k < K; ++k) {
            PARFOCAL_INDEPENDENT
            for (size_t r = 0; r < n; ++r) {
                const size_t i = size_t(k) * n + r;
                const double of_first = d.curvature[i] / (d.total[i] * d.total[i]) - d.a[i] * (d.rest[i] / d.total[i]);
                top[r] += select(k == b.first[r], 0.0, of_first);
                d.own[i] = select(k == b.first[r], 0.0, (d.curvature[i] + d.own[i]) / (d.total[i] * d.total[i]));
            }
        }
        sum_of_others(d.own, classes, n, b.first, d.total);
        sum_of_others(d.e_second, classes, n, none, d.rest);  // 1 - r_first, times second_total
        for (int k = 0; k < K; ++k) {
            PARFOCAL_INDEPENDENT
            for (size_t r = 0; r < n; ++r) {
                const size_t i = size_t(k) * n + r;
                const double total = or_one(second_total[r]), r_first = d.e_second[i] / total;
                const double below = d.e[i] * d.e[i] * d.total[i] - d.e[i] * d.c[i];
                const double by_first =
                    first_curvature[r] * r_first * r_first - first_own[r] * r_first * (d.rest[i] / total);
                d.y[i] = by[r] * (d.curvature[i] + by_first + select(k == b.first[r], top[r], below));
            }
        }
    }
}

}  // namespace parfocal::PARFOCAL_ISA
