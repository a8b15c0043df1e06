// Compiled once for each instruction set, PARFOCAL_ISA.
#include "loops.hpp"
#include "softmax.hpp"

namespace parfocal {

namespace PARFOCAL_ISA {

bool needs_double(Type type) { return type != Type::float16 && type != Type::bfloat16 && type != Type::float32; }

// Whether a booster's gradient and curvature may be computed in float.  The error is at most 8e-7 up to gamma 5, and
// 1.05e-6 at gamma 10.
bool float_suffices(const BinaryJob& job) {
    return !needs_double(job.gradient.type) && !needs_double(job.curvature.type) && job.gamma_0 <= 5.0 &&
           job.gamma_1 <= 5.0;
}

void binary(const BinaryJob& job, std::size_t begin, std::size_t end, Result& result) {
    if (job.boosting && float_suffices(job)) return binary_chunk<Order::boosting, float>(job, begin, end, result);
    if (job.boosting) return binary_chunk<Order::boosting, double>(job, begin, end, result);
    if (job.curvature.data) return binary_chunk<Order::curvature, double>(job, begin, end, result);
    if (needs_double(job.x.type)) return binary_chunk<Order::gradient, double>(job, begin, end, result);
    return binary_chunk<Order::gradient, float>(job, begin, end, result);
}

void softmax(const SoftmaxJob& job, std::size_t begin, std::size_t end, Result& result) {
    if (job.boosting) return softmax_chunk<Order::boosting, double>(job, begin, end, result);
    if (job.curvature.data) return softmax_chunk<Order::curvature, double>(job, begin, end, result);
    if (needs_double(job.z.type)) return softmax_chunk<Order::gradient, double>(job, begin, end, result);
    return softmax_chunk<Order::gradient, float>(job, begin, end, result);
}

}  // namespace PARFOCAL_ISA

#define PARFOCAL_NAME_(isa) kernels_##isa
#define PARFOCAL_NAME(isa) PARFOCAL_NAME_(isa)
#define PARFOCAL_TEXT_(isa) #isa
#define PARFOCAL_TEXT(isa) PARFOCAL_TEXT_(isa)
extern const Kernels PARFOCAL_NAME(PARFOCAL_ISA);
const Kernels PARFOCAL_NAME(PARFOCAL_ISA) = {PARFOCAL_TEXT(PARFOCAL_ISA), PARFOCAL_ISA::binary, PARFOCAL_ISA::softmax};

}  // namespace parfocal
