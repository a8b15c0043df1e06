// The rows of a softmax: their memory, their labels, and what is computed once per row.
#pragma once

#include <cstring>

#include "loops.hpp"

namespace parfocal::PARFOCAL_ISA {

inline constexpr size_t ROWS = 64;     // at most, in a block
inline constexpr int LEFT_OUT = -1;    // the target of an ignored row
inline constexpr int UNLABELLED = -2;  // the target of a row whose labels are all 0

// -- rows of a job

// The position of class 0 of a row.
PARFOCAL_ELEMENT ptrdiff_t position(const Rows& rows, size_t row, size_t inner) {
    return ptrdiff_t(row / inner) * rows.outer + ptrdiff_t(row % inner) * rows.inner;
}

// Four classes of a row, moved together.
template <class T>
struct Quad {
    T classes[4];
};

// Rows of type T whose classes are contiguous are transposed four classes at a time; the last four may overlap the ones
// before.  100k x 10 floats, there and back: 0.78 ns a number one by one, 0.23 ns by fours.
template <class T>
inline bool by_quads(const Rows& rows, size_t classes) {
    return rows.type == TYPE<T> && rows.of_class == 1 && classes >= 4;
}

template <class T>
PARFOCAL_BLOCK void quads_to_columns(const T* from, ptrdiff_t stride, size_t n, T* __restrict to) {
    Quad<T> quads[ROWS];
    for (size_t r = 0; r < n; ++r) std::memcpy(&quads[r], from + ptrdiff_t(r) * stride, sizeof(Quad<T>));
    for (size_t r = 0; r < n; ++r) {
        to[r] = quads[r].classes[0];
        to[n + r] = quads[r].classes[1];
        to[2 * n + r] = quads[r].classes[2];
        to[3 * n + r] = quads[r].classes[3];
    }
}

template <class T>
PARFOCAL_BLOCK void columns_to_quads(const T* __restrict from, ptrdiff_t stride, size_t n, T* to) {
    Quad<T> quads[ROWS];
    for (size_t r = 0; r < n; ++r) quads[r] = {{from[r], from[n + r], from[2 * n + r], from[3 * n + r]}};
    for (size_t r = 0; r < n; ++r) std::memcpy(to + ptrdiff_t(r) * stride, &quads[r], sizeof(Quad<T>));
}

// Reads n rows, transposed: class k of row r goes to values[k * n + r].
template <class T>
void load_transposed(const Rows& rows, size_t row, size_t n, size_t inner, size_t classes, T* values) {
    const ptrdiff_t start = position(rows, row, inner);
    if (by_quads<T>(rows, classes))
        for (size_t k = 0; k < classes; k += 4) {
            const size_t at = smaller(k, classes - 4);
            quads_to_columns(static_cast<const T*>(rows.data) + start + at, rows.inner, n, values + at * n);
        }
    else
        for (size_t k = 0; k < classes; ++k)
            load(rows.data, rows.type, start + ptrdiff_t(k) * rows.of_class, rows.inner, n, values + k * n);
}

template <class T>
void store_transposed(const Rows& rows, size_t row, size_t n, size_t inner, size_t classes, const T* values) {
    const ptrdiff_t start = position(rows, row, inner);
    if (by_quads<T>(rows, classes))
        for (size_t k = 0; k < classes; k += 4) {
            const size_t at = smaller(k, classes - 4);
            columns_to_quads(values + at * n, rows.inner, n, static_cast<T*>(rows.data) + start + at);
        }
    else
        for (size_t k = 0; k < classes; ++k)
            store(rows.data, rows.type, start + ptrdiff_t(k) * rows.of_class, rows.inner, n, values + k * n);
}

// -- what is stored once per row

struct Block {
    double alpha[ROWS], gamma[ROWS];                  // of the target; alpha is multiplied by the label
    double weight[ROWS], cotangent[ROWS];             // of the job
    double z[ROWS], top[ROWS];                        // the logit of the target; the largest of the others
    double total[ROWS], below[ROWS];                  // sum of the others' exponentials; the same without the largest
    double loss[ROWS], slope[ROWS], curvature[ROWS];  // of the target
    double share[ROWS];                               // the factor of an exponential in the gradient
    int target[ROWS], first[ROWS];                    // first: the class of the largest of the others
    double tree[BLOCK / 2];
};

PARFOCAL_ELEMENT double of(const double* values, bool for_each, int k) { return values[for_each ? k : 0]; }

// alpha or gamma of the targets; `given` has one number for all classes, or one for each.
inline void read_parameter(const double* given, bool for_each, size_t n, const int* target, double* values) {
    for (size_t r = 0; r < n; ++r) values[r] = given[0];
    if (for_each)
        for (size_t r = 0; r < n; ++r) values[r] = given[target[r] < 0 ? 0 : target[r]];
}

inline void read_parameters(const SoftmaxJob& job, size_t n, Block& block) {
    read_parameter(job.alpha, job.alpha_for_each, n, block.target, block.alpha);
    read_parameter(job.gamma, job.gamma_for_each, n, block.target, block.gamma);
}

// Reads class indices as targets.  Returns whether some rows are ignored.
PARFOCAL_BLOCK inline bool read_indices(const SoftmaxJob& job, size_t row, size_t n, Block& block, Result& result) {
    load(job.target.data, job.target.type, ptrdiff_t(row) * job.target.stride, job.target.stride, n, block.z);
    const double classes = double(job.classes), ignore = job.ignore_class;
    const bool ignores = job.ignores;
    unsigned bad = 0, left_out = 0;
    for (size_t r = 0; r < n; ++r) {
        const double label = block.z[r];
        const int target = int(select(label >= 0.0 && label < classes, label, 0.0));
        const bool ignored = ignores && label == ignore;
        bad |= unsigned(!ignored) & unsigned(double(target) != label);
        left_out |= unsigned(ignored);
        block.target[r] = ignored ? LEFT_OUT : target;
    }
    for (size_t r = 0; bad && result.bad_label < 0; ++r) {
        const double label = block.z[r];
        const bool found = !(label >= 0.0 && label < classes && double(int(label)) == label);
        if (found && !(ignores && label == ignore)) result.bad_label = std::int64_t(row + r);
    }
    read_parameters(job, n, block);
    for (size_t r = 0; left_out && r < n; ++r)
        block.alpha[r] = select(block.target[r] == LEFT_OUT, 0.0, block.alpha[r]);
    return left_out != 0;
}

// Reads transposed rows of labels.  Returns whether each row has weight on at most one class: that class is then the
// target, and alpha is multiplied by its label.
template <class Y>
PARFOCAL_BLOCK bool read_labels(const SoftmaxJob& job, size_t row, size_t n, const Y* labels, Block& block,
                                Result& result) {
    unsigned bad = 0, several = 0;
    Y own[ROWS];
    for (size_t r = 0; r < n; ++r) own[r] = Y(0);
    for (size_t r = 0; r < n; ++r) block.target[r] = UNLABELLED;
    for (int k = 0; k < int(job.classes); ++k) {
        const Y* labels_k = labels + size_t(k) * n;
        for (size_t r = 0; r < n; ++r) {
            const Y label = labels_k[r];
            const bool counts = label != Y(0);
            bad |= unsigned(!(label >= Y(0))) | unsigned(!(label <= Y(1)));
            several |= unsigned(counts) & unsigned(own[r] != Y(0));
            own[r] = select(counts, label, own[r]);
            block.target[r] = counts ? k : block.target[r];
        }
    }
    for (size_t i = 0; bad && result.bad_label < 0; ++i) {
        const Y label = labels[i % job.classes * n + i / job.classes];
        if (!(label >= Y(0) && label <= Y(1))) result.bad_label = std::int64_t(row * job.classes + i);
    }
    read_parameters(job, n, block);
    for (size_t r = 0; r < n; ++r) block.alpha[r] *= double(own[r]);
    return !several;
}

// To be called after the labels are read: an ignored row gets weight 0.
inline void read_weights(const SoftmaxJob& job, size_t row, size_t n, Block& block) {
    const auto read = [&](const Array& given, double* weights) {
        for (size_t r = 0; r < n; ++r) weights[r] = 1.0;
        if (given.data) load(given.data, given.type, ptrdiff_t(row) * given.stride, given.stride, n, weights);
        for (size_t r = 0; r < n; ++r) weights[r] = select(block.target[r] == LEFT_OUT, 0.0, weights[r]);
    };
    read(job.weight, block.weight);
    read(job.cotangent, block.cotangent);
}

// Margin, loss and derivatives of the targets, from z, top and total.  The margin is computed in double, and its loss
// in type T from a pair that holds the margin: 2.4 ns a row where T is double, 2.0 where it is float.
template <int G, Order order, class T>
PARFOCAL_BLOCK void finish_as(size_t n, double scale, Block& b) {
    T high[ROWS], low[ROWS], e[ROWS];
    for (size_t r = 0; r < n; ++r) {
        const Sum<double> m = margin(b.z[r], b.top[r], b.total[r]);
        high[r] = T(m.high);
        low[r] = T(select(finite(m.high), m.high - double(high[r]), 0.0) + m.low);
    }
    for (size_t r = 0; r < n; ++r) e[r] = exponential_of_size(Sum<T>{high[r], low[r]});
    for (size_t r = 0; r < n; ++r) {
        Gamma<T> gamma;
        gamma.high = T(b.gamma[r]);
        gamma.low = T(b.gamma[r] - double(gamma.high));
        const Focal<T> at = focal<G, order>(high[r], e[r], gamma, low[r]);
        const double weight = b.alpha[r] * b.weight[r], by = weight * b.cotangent[r] * scale;
        b.loss[r] = weighted(weight, double(at.loss));
        b.slope[r] = by * double(at.slope);
        b.share[r] = -(by * double(at.slope)) / or_one(b.total[r]);
        if constexpr (order != Order::gradient) b.curvature[r] = by * double(at.curvature);
    }
}

template <Order order, class T>
void finish(const SoftmaxJob& job, size_t n, Block& block) {
    const int gamma = job.gamma_for_each ? ANY : small_gamma(*job.gamma, *job.gamma);
    dispatch<order>(gamma, [&](auto g) { finish_as<g.value, order, T>(n, job.scale, block); });
}

// The second derivative for a class other than the target: C r^2 - A r (1 - r), where 1 - r is summed, not subtracted.
PARFOCAL_ELEMENT double curvature_of_other(double e, bool is_first, double total, double below, double slope,
                                           double curvature) {
    const double r = e / total, rest = select(is_first, below, 1.0 + (below - e)) / total;
    return curvature * r * r - slope * r * rest;
}

}  // namespace parfocal::PARFOCAL_ISA
