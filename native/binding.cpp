// The Python module parfocal._native: it reads arrays by the buffer protocol, hands a job to the kernel in use, and
// returns the sum of the losses.
//
// It checks only what memory safety needs.  core/validation.py checks labels, parameters and shapes, with errors that
// explain them.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "kernels.hpp"
#include "processor.hpp"
#include "threads.hpp"

namespace nb = nanobind;

namespace parfocal {

extern const Kernels kernels_baseline;
#ifdef PARFOCAL_HAS_V3
extern const Kernels kernels_v3;
#endif
#ifdef PARFOCAL_HAS_V4
extern const Kernels kernels_v4;
#endif

namespace {

// The kernels that this processor can run, the fastest first.
std::vector<const Kernels*> usable() {
    std::vector<const Kernels*> found;
#ifdef PARFOCAL_HAS_V4
    if (level(processor()) >= Level::v4) found.push_back(&kernels_v4);
#endif
#ifdef PARFOCAL_HAS_V3
    if (level(processor()) >= Level::v3) found.push_back(&kernels_v3);
#endif
    found.push_back(&kernels_baseline);
    return found;
}

std::atomic<const Kernels*> in_use{usable().front()};
std::atomic<int> threads{available_threads()};

// -- arrays

// A view of a Python object's memory, held for as long as the View lives.  The view of None is empty.
class View {
  public:
    explicit View(nb::handle object, bool writable = false) {
        if (object.is_none()) return;
        if (PyObject_GetBuffer(object.ptr(), &buffer, PyBUF_STRIDES | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0)))
            throw nb::python_error();
        held = true;
    }
    ~View() {
        if (held) PyBuffer_Release(&buffer);
    }
    View(const View&) = delete;
    View& operator=(const View&) = delete;

    explicit operator bool() const { return held; }
    int axes() const { return buffer.ndim; }
    std::size_t length(int axis) const { return std::size_t(buffer.shape[axis]); }

    // The stride in elements.  The caller copies arrays whose strides are not a multiple of their item size.
    std::ptrdiff_t stride(int axis) const {
        if (buffer.strides[axis] % buffer.itemsize)
            throw nb::value_error("an array's strides are not a multiple of its item size");
        return buffer.strides[axis] / buffer.itemsize;
    }

    std::size_t size() const {
        std::size_t product = 1;
        for (int axis = 0; axis < axes(); ++axis) product *= length(axis);
        return product;
    }

    // For `scores`, 16-bit integers are read as bfloat16: the buffer protocol has no format for it.
    Type type(bool scores) const {
        const char* format = buffer.format ? buffer.format : "B";
        if (*format == '=' || *format == '@' || *format == '<') ++format;
        if (reinterpret_cast<std::uintptr_t>(buffer.buf) % std::size_t(buffer.itemsize))
            throw nb::value_error("an array's items must be aligned");
        const bool integer = std::strchr("bhilq?BHILQ", *format) && !format[1];
        const bool is_signed = integer && std::strchr("bhilq", *format);
        switch (buffer.itemsize) {
            case 1:
                if (integer) return is_signed ? Type::int8 : Type::uint8;
                break;
            case 2:
                if (*format == 'e') return Type::float16;
                if (integer) return is_signed ? Type::int16 : scores ? Type::bfloat16 : Type::uint16;
                break;
            case 4:
                if (*format == 'f') return Type::float32;
                if (integer) return is_signed ? Type::int32 : Type::uint32;
                break;
            case 8:
                if (*format == 'd') return Type::float64;
                if (integer) return is_signed ? Type::int64 : Type::uint64;
        }
        throw nb::type_error(("the kernels do not read arrays of format '" + std::string(format) + "'").c_str());
    }

    // One value for each of `samples`.
    Array array(std::size_t samples, bool scores = false) const {
        if (!held) return {};
        const bool contiguous = axes() != 1 && PyBuffer_IsContiguous(&buffer, 'C');
        if (size() != samples || (axes() != 1 && !contiguous))
            throw nb::value_error("an array must hold one value a sample, contiguous or along one axis");
        return {buffer.buf, type(scores), contiguous ? 1 : stride(0)};
    }

    // One value for each class: [outer, inner, class].
    Rows rows(const SoftmaxJob& job, bool scores = false) const {
        if (!held) return {};
        if (axes() != 3 || length(0) != job.outer || length(1) != job.inner || length(2) != job.classes)
            throw nb::value_error("an array of rows must have the shape of the logits");
        return {buffer.buf, type(scores), stride(0), stride(1), stride(2)};
    }

    const double* numbers(std::size_t classes) const {
        if (type(false) != Type::float64 || axes() != 1 || stride(0) != 1 || (length(0) != 1 && length(0) != classes))
            throw nb::value_error(
                "alpha and gamma must be contiguous float64 arrays with one number, or one per class");
        return static_cast<const double*>(buffer.buf);
    }

  private:
    Py_buffer buffer{};
    bool held = false;
};

void results_are_floating(std::initializer_list<Type> types) {
    for (const Type type : types)
        if (type > Type::float64) throw nb::type_error("results must be floating");
}

// -- jobs

// Releases the GIL for as long as it lives.  While the interpreter shuts down, it ends each thread that asks for the
// GIL by unwinding its stack, and an exception must not leave a destructor: such a thread sleeps until the process
// ends.
class Released {
  public:
    Released() : state(PyEval_SaveThread()) {}
    Released(const Released&) = delete;
    Released& operator=(const Released&) = delete;
    ~Released() {
        try {
            PyEval_RestoreThread(state);
        } catch (...) {
            for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
        }
    }

  private:
    PyThreadState* state;
};

using Answer = std::tuple<double, std::int64_t, bool>;

Answer answer(const Result& result) {
    if (result.no_memory) throw std::bad_alloc();
    return {result.sum + result.lost, result.bad_label, result.soft_label};
}

Answer binary(nb::handle x, nb::handle y, nb::handle weight, nb::handle cotangent, nb::handle loss, nb::handle gradient,
              nb::handle curvature, double gamma_0, double gamma_1, double weight_0, double weight_1,
              double label_smoothing, bool expected, double scale, bool boosting, int at_most) {
    const View x_view(x), y_view(y), weight_view(weight), cotangent_view(cotangent);
    const View loss_view(loss, true), gradient_view(gradient, true), curvature_view(curvature, true);
    BinaryJob job;
    job.samples = x_view.size();
    job.x = x_view.array(job.samples, true);
    job.y = y_view.array(job.samples);
    job.weight = weight_view.array(job.samples);
    job.cotangent = cotangent_view.array(job.samples);
    job.loss = loss_view.array(job.samples, true);
    job.gradient = gradient_view.array(job.samples, true);
    job.curvature = curvature_view.array(job.samples, true);
    results_are_floating({job.loss.type, job.gradient.type, job.curvature.type});
    if (!job.x.data || !job.y.data) {
        if (job.samples) throw nb::value_error("x and y must be given");
        return answer({});
    }
    job.gamma_0 = gamma_0, job.gamma_1 = gamma_1, job.weight_0 = weight_0, job.weight_1 = weight_1;
    job.label_smoothing = label_smoothing, job.scale = scale, job.expected = expected, job.boosting = boosting;
    const Kernels* kernels = in_use;
    if (job.samples <= LOGITS_PER_CHUNK) {  // too short to be worth a thread, or releasing the GIL
        Result result;
        kernels->binary(job, 0, job.samples, result);
        return answer(result);
    }
    const Released released;
    return answer(
        run(job.samples, 1, at_most ? at_most : threads.load(),
            [&](std::size_t begin, std::size_t end, Result& result) { kernels->binary(job, begin, end, result); }));
}

Answer softmax(nb::handle z, nb::handle target, nb::handle labels, nb::handle weight, nb::handle cotangent,
               nb::handle loss, nb::handle gradient, nb::handle curvature, nb::handle alpha, nb::handle gamma,
               double label_smoothing, std::optional<double> ignore_class, double scale, bool boosting, int at_most) {
    const View z_view(z), target_view(target), labels_view(labels), weight_view(weight), cotangent_view(cotangent);
    const View loss_view(loss, true), gradient_view(gradient, true), curvature_view(curvature, true);
    const View alpha_view(alpha), gamma_view(gamma);
    if (z_view.axes() != 3 || z_view.length(2) < 1 || z_view.length(2) > 0x7fffffff)
        throw nb::value_error("logits must have three axes: [outer, inner, class]");
    if (bool(target_view) == bool(labels_view)) throw nb::value_error("give class indices, or labels for every class");
    SoftmaxJob job;
    job.outer = z_view.length(0), job.inner = z_view.length(1), job.classes = z_view.length(2);
    const std::size_t samples = job.outer * job.inner;
    if (samples == 0) return answer({});
    job.z = z_view.rows(job, true);
    job.target = target_view.array(samples);
    job.labels = labels_view.rows(job);
    job.weight = weight_view.array(samples);
    job.cotangent = cotangent_view.array(samples);
    job.loss = loss_view.array(samples, true);
    job.gradient = gradient_view.rows(job, true);
    job.curvature = curvature_view.rows(job, true);
    results_are_floating({job.loss.type, job.gradient.type, job.curvature.type});
    job.alpha = alpha_view.numbers(job.classes), job.alpha_for_each = alpha_view.length(0) != 1;
    job.gamma = gamma_view.numbers(job.classes), job.gamma_for_each = gamma_view.length(0) != 1;
    job.label_smoothing = label_smoothing, job.scale = scale, job.boosting = boosting;
    job.ignores = ignore_class.has_value(), job.ignore_class = ignore_class.value_or(0.0);
    const Kernels* kernels = in_use;
    const Released released;
    return answer(
        run(samples, job.classes, at_most ? at_most : threads.load(),
            [&](std::size_t begin, std::size_t end, Result& result) { kernels->softmax(job, begin, end, result); }));
}

// -- which kernel, and how many threads

std::vector<std::string> names() {
    std::vector<std::string> found;
    for (const Kernels* kernels : usable()) found.push_back(kernels->name);
    return found;
}

void use(const std::string& name) {
    for (const Kernels* kernels : usable())
        if (name == kernels->name) {
            in_use = kernels;
            return;
        }
    throw nb::value_error(("this processor runs no kernel named " + name).c_str());
}

}  // namespace
}  // namespace parfocal

NB_MODULE(_native, module) {
    using namespace parfocal;
    module.def("binary", &binary, nb::arg("x"), nb::arg("y"), nb::arg("weight").none(), nb::arg("cotangent").none(),
               nb::arg("loss").none(), nb::arg("gradient").none(), nb::arg("curvature").none(), nb::arg("gamma_0"),
               nb::arg("gamma_1"), nb::arg("weight_0"), nb::arg("weight_1"), nb::arg("label_smoothing"),
               nb::arg("expected"), nb::arg("scale"), nb::arg("boosting"), nb::arg("threads") = 0);
    module.def("softmax", &softmax, nb::arg("z"), nb::arg("target").none(), nb::arg("labels").none(),
               nb::arg("weight").none(), nb::arg("cotangent").none(), nb::arg("loss").none(),
               nb::arg("gradient").none(), nb::arg("curvature").none(), nb::arg("alpha"), nb::arg("gamma"),
               nb::arg("label_smoothing"), nb::arg("ignore_class").none(), nb::arg("scale"), nb::arg("boosting"),
               nb::arg("threads") = 0);
    module.def("names", &names);
    module.def("use", &use, nb::arg("name"));
    module.def("in_use", [] { return std::string(in_use.load()->name); });
    module.def("threads", [] { return threads.load(); });
    module.def("set_threads", [](int number) { threads = number; }, nb::arg("number"));
}
