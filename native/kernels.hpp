// The job that a kernel gets and the result that it returns: plain data, the same for every instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace parfocal {

// Kernels compute in float and double; the other types are converted, a block at a time.
enum class Type { float16, bfloat16, float32, float64, int8, int16, int32, int64, uint8, uint16, uint32, uint64 };

// One value per sample.  Strides count elements; without data the array is not given, or not wanted.
struct Array {
    void* data = nullptr;
    Type type = Type::float32;
    std::ptrdiff_t stride = 1;
};

// One value for each class of each sample.  Sample number i is [i / inner][i % inner].
struct Rows {
    void* data = nullptr;
    Type type = Type::float32;
    std::ptrdiff_t outer = 0, inner = 0, of_class = 1;  // strides
};

struct BinaryJob {
    std::size_t samples = 0;
    Array x, y;
    Array weight;     // multiplies loss, gradient and curvature
    Array cotangent;  // multiplies gradient and curvature
    Array loss, gradient, curvature;
    double gamma_0 = 0, gamma_1 = 0, weight_0 = 1, weight_1 = 1, label_smoothing = 0;
    double scale = 1;       // multiplies gradient and curvature
    bool expected = false;  // the rule "expected" for soft labels; otherwise "linear"
    bool boosting = false;  // the curvature is the positive one
};

struct SoftmaxJob {
    std::size_t outer = 0, inner = 0, classes = 0;
    Rows z;
    Array target;                                     // class indices; or
    Rows labels;                                      // a label for every class
    const double *alpha = nullptr, *gamma = nullptr;  // one for every class, or one for all
    bool alpha_for_each = false, gamma_for_each = false;
    bool ignores = false;
    double ignore_class = 0, label_smoothing = 0, scale = 1;
    Array weight, cotangent, loss;
    Rows gradient, curvature;
    bool boosting = false;
};

struct Result {
    double sum = 0, lost = 0;     // of the losses; and what rounding lost of it
    std::int64_t bad_label = -1;  // the position of the first invalid label
    bool no_memory = false;       // nothing was computed
    bool soft_label = false;      // some label lies between 0 and 1
};

// The kernels of one instruction set.  Samples are computed in chunks whose borders depend only on the shape, so the
// results are the same to the bit for any number of threads.
struct Kernels {
    const char* name;
    void (*binary)(const BinaryJob&, std::size_t begin, std::size_t end, Result&);
    void (*softmax)(const SoftmaxJob&, std::size_t begin, std::size_t end, Result&);
};

}  // namespace parfocal
