// One pass over the rows of a softmax.
//
//   (a) Rows with few classes, or with classes apart in memory, are transposed: loops then run over the rows, class by
//       class.  Rows with many contiguous classes stay as they are, and loops run over the classes.
//   (b) Labels with weight on one class need one margin per row; others need the margins of all classes (dense.hpp).
#pragma once

#include "dense.hpp"

namespace parfocal::PARFOCAL_ISA {

inline constexpr size_t FEW = 64;    // up to so many classes are transposed
inline constexpr size_t LANES = 64;  // numbers that are compared in parallel

// -- one class a row, transposed

// Prefetches the rows after a block while the block is computed: transposing reads and writes too fast for the
// processor's own prefetching.  400k x 10 floats: 1.53 ns a logit without it, 1.27 with it.
struct Ahead {
    const char *z = nullptr, *gradient = nullptr;
    size_t bytes = 0;

    // Rows `row` to `row` + n, in type `type`.  Does nothing if they are past the end or not one piece of memory.
    Ahead(const SoftmaxJob& job, size_t row, size_t n, size_t end, Type type) {
        const auto one_piece = [&](const Rows& rows) {
            return rows.data && rows.type == type && rows.of_class == 1 && rows.inner == ptrdiff_t(job.classes);
        };
        if (row + n > end || !one_piece(job.z) || !one_piece(job.gradient)) return;
        const ptrdiff_t item = type == Type::float32 ? 4 : 8;
        z = static_cast<const char*>(job.z.data) + position(job.z, row, job.inner) * item;
        gradient = static_cast<const char*>(job.gradient.data) + position(job.gradient, row, job.inner) * item;
        bytes = n * job.classes * size_t(item);
    }

    // Prefetches one of `parts` equal parts.
    void ask_for(size_t part, size_t parts) const {
#ifndef _MSC_VER
        for (size_t i = bytes / parts * part; i < bytes / parts * (part + 1); i += 64) {
            __builtin_prefetch(z + i);
            __builtin_prefetch(gradient + i, 1);
        }
#endif
    }
};

// Where the largest logit of a row is +infinity, exp(z - top) is 1 for each logit that equals it, and 0 for the others.
// Other infinities are right by themselves: exponential(-infinity, NaN) is 0.  Exponentials are stored times 2^UP.
template <class T>
PARFOCAL_BLOCK void tie_infinities(size_t n, const T* z, const T* top, const int* target, int k, T* e) {
    for (size_t r = 0; r < n; ++r)
        if (top[r] == INFINITE<T> && z[r] == top[r] && target[r] != k) e[r] = TWO_TO_UP<T>;
}

// Adds one class to the sums over classes.  Sums of doubles keep what rounding lost: without it 64 classes cost 2e-14
// at gamma 10.
template <class T>
PARFOCAL_ELEMENT void add_to(size_t n, const T* __restrict values, double* __restrict sums, double* __restrict lost) {
    if constexpr (sizeof(T) == 8) {
        PARFOCAL_INDEPENDENT
        for (size_t r = 0; r < n; ++r) {
            const Sum<double> sum = two_sum(sums[r], values[r]);
            sums[r] = sum.high;
            lost[r] += sum.low;
        }
    } else {
        PARFOCAL_INDEPENDENT
        for (size_t r = 0; r < n; ++r) sums[r] += double(values[r]);
    }
}

// z holds the transposed logits first, and the gradient in the end; e is a buffer of that size, and holds the curvature
// in the end.
template <Order order, class T>
PARFOCAL_BLOCK void transposed_block(const SoftmaxJob& job, size_t n, T* __restrict z, T* __restrict e, Block& b,
                                     const Ahead& ahead) {
    const int classes = int(job.classes);
    T top[ROWS], z_target[ROWS], slope[ROWS], share[ROWS];
    double lost[ROWS], lost_below[ROWS];
    PARFOCAL_INDEPENDENT
    for (size_t r = 0; r < n; ++r) top[r] = -INFINITE<T>;
    PARFOCAL_INDEPENDENT
    for (size_t r = 0; r < n; ++r) z_target[r] = T(0);
    PARFOCAL_INDEPENDENT
    for (size_t r = 0; r < n; ++r) b.first[r] = 0;
    for (int k = 0; k < classes; ++k) {
        const T* __restrict z_k = z + size_t(k) * n;
        PARFOCAL_INDEPENDENT
        for (size_t r = 0; r < n; ++r) {
            const bool own = k == b.target[r];
            const T other = select(own, -INFINITE<T>, z_k[r]);
            const bool larger = other > top[r];
            z_target[r] = select(own, z_k[r], z_target[r]);
            top[r] = select(larger, other, top[r]);
            if constexpr (order != Order::gradient) b.first[r] = larger ? k : b.first[r];
        }
    }
    unsigned infinite = 0;
    for (size_t r = 0; r < n; ++r) top[r] = select(top[r] == -INFINITE<T>, T(0), top[r]);
    for (size_t r = 0; r < n; ++r) infinite |= unsigned(top[r] == INFINITE<T>);
    PARFOCAL_INDEPENDENT
    for (size_t r = 0; r < n; ++r) b.total[r] = b.below[r] = lost[r] = lost_below[r] = 0.0;
    for (int k = 0; k < classes; ++k) {
        const T* __restrict z_k = z + size_t(k) * n;
        T* __restrict e_k = e + size_t(k) * n;
        PARFOCAL_INDEPENDENT
        for (size_t r = 0; r < n; ++r) {
            const Sum<T> difference = two_sum(z_k[r], -top[r]);
            e_k[r] = select(k == b.target[r], T(0), exponential<UP>(difference.high, difference.low));
        }
        if (infinite) tie_infinities(n, z_k, top, b.target, k, e_k);
        ahead.ask_for(size_t(k), job.classes);
        add_to<T>(n, e_k, b.total, lost);
        if constexpr (order != Order::gradient) {
            T below[ROWS];
            PARFOCAL_INDEPENDENT
            for (size_t r = 0; r < n; ++r) below[r] = select(k == b.first[r], T(0), e_k[r]);
            add_to<T>(n, below, b.below, lost_below);
        }
    }
    PARFOCAL_INDEPENDENT
    for (size_t r = 0; r < n; ++r) b.total[r] = (b.total[r] + lost[r]) * DOWN<double>;
    PARFOCAL_INDEPENDENT
    for (size_t r = 0; r < n; ++r) b.below[r] = (b.below[r] + lost_below[r]) * DOWN<double>;
    PARFOCAL_INDEPENDENT
    for (size_t r = 0; r < n; ++r) b.z[r] = double(z_target[r]);
    PARFOCAL_INDEPENDENT
    for (size_t r = 0; r < n; ++r) b.top[r] = double(top[r]);
    finish<order, T>(job, n, b);
    PARFOCAL_INDEPENDENT
    for (size_t r = 0; r < n; ++r) slope[r] = T(b.slope[r]);
    PARFOCAL_INDEPENDENT
    for (size_t r = 0; r < n; ++r) share[r] = T(b.share[r]);
    for (int k = 0; k < classes; ++k) {
        T* __restrict z_k = z + size_t(k) * n, * __restrict e_k = e + size_t(k) * n;
        PARFOCAL_INDEPENDENT
        for (size_t r = 0; r < n; ++r) z_k[r] = select(k == b.target[r], slope[r], share[r] * e_k[r] * DOWN<T>);
        if constexpr (order != Order::gradient) PARFOCAL_INDEPENDENT
        for (size_t r = 0; r < n; ++r)
            e_k[r] = select(k == b.target[r], b.curvature[r],
                            curvature_of_other(double(e_k[r]) * DOWN<double>, k == b.first[r], or_one(b.total[r]),
                                               b.below[r], b.slope[r], b.curvature[r]));
    }
}

// -- one class a row, not transposed

// The largest number of a row of at least LANES classes, without the class `left_out`.
template <class T>
PARFOCAL_BLOCK T largest(const T* z, size_t classes, int left_out) {
    T lanes[LANES];
    for (size_t l = 0; l < LANES; ++l) lanes[l] = -INFINITE<T>;
    for (size_t start = 0; start < classes; start += LANES) {
        const size_t from = smaller(start, classes - LANES);  // the last step overlaps the one before
        const int skip = left_out - int(from);
        for (int l = 0; l < int(LANES); ++l) {
            const T other = select(l == skip, -INFINITE<T>, z[from + size_t(l)]);
            lanes[l] = select(other > lanes[l], other, lanes[l]);
        }
    }
    for (size_t width = LANES / 2; width > 0; width /= 2)
        for (size_t l = 0; l < width; ++l) lanes[l] = select(lanes[width + l] > lanes[l], lanes[width + l], lanes[l]);
    return lanes[0];
}

template <class T>
double sum_of(const T* values, size_t n) {
    T tree[BLOCK / 2];
    Result sum;
    for (size_t start = 0; start < n; start += BLOCK)
        add(sum, tree_sum(values + start, smaller(BLOCK, n - start), tree));
    return sum.sum + sum.lost;
}

// Computes the exponentials of a row's other classes, times 2^UP, and what finish() needs of the row.
template <Order order, class T>
PARFOCAL_BLOCK void read_row(const T* __restrict z, size_t classes, size_t r, T* __restrict e, Block& b) {
    const int target = b.target[r];
    if (target == LEFT_OUT) {
        for (size_t k = 0; k < classes; ++k) e[k] = T(0);
        b.z[r] = b.top[r] = b.total[r] = b.below[r] = 0.0;
        return;
    }
    const T found = largest(z, classes, target), top = select(found == -INFINITE<T>, T(0), found);
    for (size_t k = 0; k < classes; ++k) {
        const Sum<T> difference = two_sum(z[k], -top);
        e[k] = exponential<UP>(difference.high, difference.low);
    }
    if (top == INFINITE<T>)
        for (size_t k = 0; k < classes; ++k) e[k] = select(z[k] == top, TWO_TO_UP<T>, e[k]);
    if (target >= 0) e[target] = T(0);
    if constexpr (order != Order::gradient) {
        int first = 0;
        while (first + 1 < int(classes) && (z[first] != top || first == target)) ++first;
        const T kept = e[first];
        e[first] = T(0);
        b.below[r] = sum_of(e, classes) * DOWN<double>;
        e[first] = kept;
        b.first[r] = first;
    }
    b.z[r] = target >= 0 ? double(z[target]) : 0.0;
    b.top[r] = double(top);
    b.total[r] = sum_of(e, classes) * DOWN<double>;
}

// Computes gradient and curvature of a row from its exponentials.  `gradient` may be `e`.
template <Order order, class T>
PARFOCAL_BLOCK void write_row(const T* e, size_t classes, size_t r, const Block& b, T* gradient, T* curvature) {
    const T share = T(b.share[r]);
    const double total = or_one(b.total[r]);
    if constexpr (order == Order::gradient) {
        for (size_t k = 0; k < classes; ++k) gradient[k] = share * e[k] * DOWN<T>;
    } else {
        for (size_t k = 0; k < classes; ++k) {
            const T exponential = e[k];
            gradient[k] = share * exponential * DOWN<T>;
            curvature[k] = curvature_of_other(double(exponential) * DOWN<double>, int(k) == b.first[r], total,
                                              b.below[r], b.slope[r], b.curvature[r]);
        }
        if (b.target[r] >= 0) curvature[b.target[r]] = b.curvature[r];
    }
    if (b.target[r] >= 0) gradient[b.target[r]] = T(b.slope[r]);
}

// Row by row.  The gradient's own memory holds the exponentials first, where its type and layout allow.
template <Order order, class T>
void rows_block(const SoftmaxJob& job, size_t row, size_t n, T* z_buffer, T* e_buffer, Block& b) {
    const size_t classes = job.classes, inner = job.inner;
    const bool z_direct = job.z.type == TYPE<T>;
    const bool direct = job.gradient.data && job.gradient.type == TYPE<T> && job.gradient.of_class == 1;
    for (size_t r = 0; r < n; ++r) {
        const T* z = static_cast<const T*>(job.z.data) + position(job.z, row + r, inner);
        if (!z_direct) {
            load(job.z.data, job.z.type, position(job.z, row + r, inner), 1, classes, z_buffer);
            z = z_buffer;
        }
        T* e = direct ? static_cast<T*>(job.gradient.data) + position(job.gradient, row + r, inner)
                      : e_buffer + r * classes;
        read_row<order>(z, classes, r, e, b);
    }
    finish<order, T>(job, n, b);
    PARFOCAL_INDEPENDENT
    for (size_t r = 0; r < n; ++r) {
        T* e = direct ? static_cast<T*>(job.gradient.data) + position(job.gradient, row + r, inner)
                      : e_buffer + r * classes;
        write_row<order>(e, classes, r, b, e, z_buffer);
        if (job.gradient.data && !direct)
            store(job.gradient.data, job.gradient.type, position(job.gradient, row + r, inner), job.gradient.of_class,
                  classes, e);
        if (job.curvature.data)
            store(job.curvature.data, job.curvature.type, position(job.curvature, row + r, inner),
                  job.curvature.of_class, classes, z_buffer);
    }
}

// -- a chunk of rows

// Replaces the logits of ignored rows by 0, so that NaN and infinities in them do not matter.
template <class T>
void leave_out(size_t n, size_t classes, const Block& b, T* z) {
    for (size_t k = 0; k < classes; ++k) {
        PARFOCAL_INDEPENDENT
        for (size_t r = 0; r < n; ++r) z[k * n + r] = select(b.target[r] == LEFT_OUT, T(0), z[k * n + r]);
    }
}

// Rows in a block: few enough for the cache, and enough to fill a vector.
inline size_t rows_in_block(size_t classes, bool transposed) {
    if (transposed) return classes * ROWS <= 4096 ? ROWS : classes * ROWS / 2 <= 4096 ? ROWS / 2 : 16;
    const size_t rows = 16384 / classes;
    return rows < 1 ? 1 : rows > ROWS ? ROWS : rows;
}

template <Order order, class T>
void softmax_chunk(const SoftmaxJob& job, size_t begin, size_t end, Result& result) {
    const size_t classes = job.classes, inner = job.inner;
    const bool transposed = classes <= FEW || job.z.of_class != 1, dense = job.labels.data != nullptr;
    const bool smooth = job.label_smoothing != 0.0, maybe_dense = dense || smooth;
    const size_t rows = smaller(end - begin, rows_in_block(classes, transposed)), size = rows * classes;
    // Buffers for logits and exponentials, for labels, and for dense rows.
    Scratch scratch(size * (2 * sizeof(T) + (maybe_dense ? (Dense::BUFFERS + 1) * sizeof(double) : 0)) + 13 * 64);
    if (!scratch) {
        result.no_memory = true;
        return;
    }
    T *z = scratch.take<T>(size), *e = scratch.take<T>(size);
    double* labels = scratch.take<double>(maybe_dense ? size : 0);
    float* float_labels = reinterpret_cast<float*>(labels);
    const Dense d(scratch, maybe_dense ? size : 0);
    Block b;
    for (size_t row = begin, n; row < end; row += n) {
        n = smaller(smaller(rows, end - row), inner - row % inner);
        bool one_class = !smooth, left_out = false;
        if (dense) {
            if (job.labels.type == Type::float32) {
                load_transposed(job.labels, row, n, inner, classes, float_labels);
                one_class &= read_labels(job, row, n, float_labels, b, result);
            } else {
                load_transposed(job.labels, row, n, inner, classes, labels);
                one_class &= read_labels(job, row, n, labels, b, result);
            }
        } else {
            left_out = read_indices(job, row, n, b, result);
        }
        read_weights(job, row, n, b);
        if (!one_class) {
            load_transposed(job.z, row, n, inner, classes, d.z);
            if (!dense)
                for (size_t i = 0; i < n * classes; ++i) d.y[i] = b.target[i % n] == int(i / n) ? 1.0 : 0.0;
            else if (job.labels.type == Type::float32)
                for (size_t i = 0; i < n * classes; ++i) d.y[i] = double(float_labels[i]);
            else
                for (size_t i = 0; i < n * classes; ++i) d.y[i] = labels[i];
            if (left_out) leave_out(n, classes, b, d.z);
            dense_block<order>(job, n, d, b);
            if (job.gradient.data) store_transposed(job.gradient, row, n, inner, classes, d.z);
            if (job.curvature.data) store_transposed(job.curvature, row, n, inner, classes, d.y);
        } else if (transposed) {
            load_transposed(job.z, row, n, inner, classes, z);
            if (left_out) leave_out(n, classes, b, z);
            transposed_block<order>(job, n, z, e, b, Ahead(job, row + n, n, end, TYPE<T>));
            if (job.gradient.data) store_transposed(job.gradient, row, n, inner, classes, z);
            if (job.curvature.data) store_transposed(job.curvature, row, n, inner, classes, e);
        } else {
            rows_block<order>(job, row, n, z, e, b);
        }
        add(result, tree_sum(b.loss, n, b.tree));
        if (job.loss.data)
            store(job.loss.data, job.loss.type, ptrdiff_t(row) * job.loss.stride, job.loss.stride, n, b.loss);
    }
}

}  // namespace parfocal::PARFOCAL_ISA
