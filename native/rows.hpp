// The rows of a softmax: where they lie, their labels, and what is computed once a row, in double.
#pragma once

#include "loops.hpp"

namespace parfocal::PARFOCAL_ISA {

inline constexpr size_t ROWS = 64;   // in a block, at most
inline constexpr int LEFT_OUT = -1;  // the target of an ignored row

// -- rows of a job

// Where class 0 of a row lies.
PARFOCAL_ELEMENT ptrdiff_t position(const Rows& rows, size_t row, size_t inner) {
    return ptrdiff_t(row / inner) * rows.outer + ptrdiff_t(row % inner) * rows.inner;
}

// n rows, turned: class k of row r goes to values[k * n + r].
template <class T> void load_turned(const Rows& rows, size_t row, size_t n, size_t inner, size_t classes, T* values) {
    const ptrdiff_t start = position(rows, row, inner);
    for (size_t k = 0; k < classes; ++k)
        load(rows.data, rows.type, start + ptrdiff_t(k) * rows.of_class, rows.inner, n, values + k * n);
}

template <class T>
void store_turned(const Rows& rows, size_t row, size_t n, size_t inner, size_t classes, const T* values) {
    const ptrdiff_t start = position(rows, row, inner);
    for (size_t k = 0; k < classes; ++k)
        store(rows.data, rows.type, start + ptrdiff_t(k) * rows.of_class, rows.inner, n, values + k * n);
}

// -- what there is once a row

struct Block {
    double alpha[ROWS], gamma[ROWS];               // of the target; alpha times its label
    double weight[ROWS], cotangent[ROWS];          // of the job
    double z[ROWS], top[ROWS];                     // logit of the target; largest of the others
    double total[ROWS], below[ROWS];               // sum of the others' exponentials; and without the largest
    double m[ROWS], m_low[ROWS], e[ROWS];          // the target's margin, and exp(-|m|)
    double loss[ROWS], slope[ROWS], bend[ROWS];    // of the target
    double share[ROWS];                            // what an exponential is multiplied by in the gradient
    int target[ROWS], first[ROWS];                 // first: which of the others is the largest
    double tree[BLOCK / 2];
};

PARFOCAL_ELEMENT double of(const double* values, bool for_each, int k) { return values[for_each ? k : 0]; }

// The classes named by indices.  Returns whether some rows are left out.
inline bool read_indices(const SoftmaxJob& job, size_t row, size_t n, Block& block, Result& result) {
    load(job.target.data, job.target.type, ptrdiff_t(row) * job.target.stride, job.target.stride, n, block.z);
    bool left_out = false;
    for (size_t r = 0; r < n; ++r) {
        const double label = block.z[r];
        const int target = label >= 0.0 && label < double(job.classes) ? int(label) : 0;
        const bool ignored = job.ignores && label == job.ignore_class;
        if (!ignored && double(target) != label && result.bad_label < 0) result.bad_label = std::int64_t(row + r);
        block.target[r] = ignored ? LEFT_OUT : target;
        block.alpha[r] = ignored ? 0.0 : of(job.alpha, job.alpha_for_each, target);
        block.gamma[r] = of(job.gamma, job.gamma_for_each, target);
        left_out |= ignored;
    }
    return left_out;
}

// The classes with weight in rows of labels, turned, each with its alpha.  Returns whether no row has more than one.
inline PARFOCAL_BLOCK bool read_labels(const SoftmaxJob& job, size_t row, size_t n, const double* labels, Block& block, Result& result) {
    unsigned bad = 0, several = 0;
    PARFOCAL_INDEPENDENT
    for (size_t r = 0; r < n; ++r) block.alpha[r] = 0.0;
    PARFOCAL_INDEPENDENT
    for (size_t r = 0; r < n; ++r) block.target[r] = 0;
    for (size_t k = 0; k < job.classes; ++k)
        PARFOCAL_INDEPENDENT
        for (size_t r = 0; r < n; ++r) {
            const double label = labels[k * n + r];
            const bool counts = label != 0.0;
            bad |= unsigned(!(label >= 0.0 && label <= 1.0));
            several |= unsigned(counts && block.alpha[r] != 0.0);
            block.alpha[r] = select(counts, label, block.alpha[r]);
            block.target[r] = counts ? int(k) : block.target[r];
        }
    if (bad && result.bad_label < 0)
        for (size_t i = 0; i < n * job.classes && result.bad_label < 0; ++i) {
            const double label = labels[i % job.classes * n + i / job.classes];
            if (!(label >= 0.0 && label <= 1.0)) result.bad_label = std::int64_t(row * job.classes + i);
        }
    PARFOCAL_INDEPENDENT
    for (size_t r = 0; r < n; ++r) block.alpha[r] *= of(job.alpha, job.alpha_for_each, block.target[r]);
    PARFOCAL_INDEPENDENT
    for (size_t r = 0; r < n; ++r) block.gamma[r] = of(job.gamma, job.gamma_for_each, block.target[r]);
    return !several;
}

// After the labels: a row that is left out has no weight.
inline void read_weights(const SoftmaxJob& job, size_t row, size_t n, Block& block) {
    const auto read = [&](const Array& given, double* weights) {
        for (size_t r = 0; r < n; ++r) weights[r] = 1.0;
        if (given.data) load(given.data, given.type, ptrdiff_t(row) * given.stride, given.stride, n, weights);
        for (size_t r = 0; r < n; ++r) weights[r] = select(block.target[r] == LEFT_OUT, 0.0, weights[r]);
    };
    read(job.weight, block.weight);
    read(job.cotangent, block.cotangent);
}

// Margin, loss and slopes of the targets, from z, top and total.
template <int G, Order order> PARFOCAL_BLOCK void finish_as(size_t n, double scale, Block& b) {
    PARFOCAL_INDEPENDENT
    for (size_t r = 0; r < n; ++r) {
        const Sum<double> m = margin(b.z[r], b.top[r], b.total[r]);
        b.m[r] = m.high;
        b.m_low[r] = m.low;
    }
    PARFOCAL_INDEPENDENT
    for (size_t r = 0; r < n; ++r) b.e[r] = exponential_of_size(Sum<double>{b.m[r], b.m_low[r]});
    PARFOCAL_INDEPENDENT
    for (size_t r = 0; r < n; ++r) {
        Gamma<double> gamma;
        gamma.high = b.gamma[r];
        gamma.low = 0.0;
        const Focal<double> at = focal<G, order>(b.m[r], b.e[r], gamma, b.m_low[r]);
        const double weight = b.alpha[r] * b.weight[r], by = weight * b.cotangent[r] * scale;
        b.loss[r] = weighted(weight, at.loss);
        b.slope[r] = by * at.slope;
        b.share[r] = -(by * at.slope) / or_one(b.total[r]);
        if constexpr (order != Order::gradient) b.bend[r] = by * at.bend;
    }
}

template <Order order> void finish(const SoftmaxJob& job, size_t n, Block& block) {
    const int gamma = job.gamma_for_each ? ANY : small_gamma(*job.gamma, *job.gamma);
    dispatch<order>(gamma, [&](auto g) { finish_as<g.value, order>(n, job.scale, block); });
}

// The second derivative of a class that is not the target: C r^2 - A r (1 - r), where 1 - r is summed.
PARFOCAL_ELEMENT double bend_of_other(double e, bool is_first, double total, double below, double slope, double bend) {
    const double r = e / total, rest = select(is_first, below, 1.0 + (below - e)) / total;
    return bend * r * r - slope * r * rest;
}

}  // namespace parfocal::PARFOCAL_ISA
