// Reads blocks of the caller's arrays, of any type and stride, as contiguous float or double; and writes blocks back.
#pragma once

#include "elementary.hpp"
#include "kernels.hpp"

namespace parfocal::PARFOCAL_ISA {

using std::ptrdiff_t;

struct Half {
    std::uint16_t bits;
};
struct BFloat {
    std::uint16_t bits;
};

// -- one number

template <class T, class From>
PARFOCAL_ELEMENT T convert(From value) {
    return T(value);
}

template <class T>
PARFOCAL_ELEMENT T convert(Half half) {
    const std::uint32_t size = std::uint32_t(half.bits & 0x7fff) << 13, sign = std::uint32_t(half.bits & 0x8000) << 16;
    const float finite = as_bits<float>(size) * 0x1p112f;  // shifts the exponent, and normalises subnormal numbers
    const std::uint32_t bits = size >= 0x0f800000u ? size | 0x7f800000u : as_bits<std::uint32_t>(finite);
    return T(as_bits<float>(bits | sign));
}

template <class T>
PARFOCAL_ELEMENT T convert(BFloat b) {
    return T(as_bits<float>(std::uint32_t(b.bits) << 16));
}

// Rounds to the nearest Half, ties to even.
PARFOCAL_ELEMENT Half to_half(float value) {
    const std::uint32_t bits = as_bits<std::uint32_t>(value), size = bits & 0x7fffffffu;
    const std::uint32_t normal = (size + 0xc8000fffu + ((size >> 13) & 1u)) >> 13;
    const std::uint32_t subnormal = as_bits<std::uint32_t>(as_bits<float>(size) + 0.5f) - 0x3f000000u;
    const std::uint32_t large = size > 0x7f800000u ? 0x7e00u : 0x7c00u;
    const std::uint32_t half = size >= 0x47800000u ? large : size < 0x38800000u ? subnormal : normal;
    return {std::uint16_t(half | ((bits >> 16) & 0x8000u))};
}

PARFOCAL_ELEMENT BFloat to_bfloat(float value) {
    const std::uint32_t bits = as_bits<std::uint32_t>(value);
    const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return {std::uint16_t(value != value ? 0x7fc0u : rounded)};
}

template <class To>
struct Narrow {
    template <class T>
    PARFOCAL_ELEMENT static To from(T value) {
        return To(value);
    }
};
template <>
struct Narrow<Half> {
    template <class T>
    PARFOCAL_ELEMENT static Half from(T value) {
        return to_half(float(value));
    }
};
template <>
struct Narrow<BFloat> {
    template <class T>
    PARFOCAL_ELEMENT static BFloat from(T value) {
        return to_bfloat(float(value));
    }
};

// -- a block of numbers

// Reads n numbers from `start` on, `stride` elements apart.
template <class T, class From>
PARFOCAL_BLOCK void load_as(const void* data, ptrdiff_t start, ptrdiff_t stride, size_t n, T* __restrict to) {
    const From* __restrict from = static_cast<const From*>(data) + start;
    if (stride == 1)
        for (size_t i = 0; i < n; ++i) to[i] = convert<T>(from[i]);
    else
        for (size_t i = 0; i < n; ++i) to[i] = convert<T>(from[ptrdiff_t(i) * stride]);
}

template <class T>
void load(const void* data, Type type, ptrdiff_t start, ptrdiff_t stride, size_t n, T* to) {
    switch (type) {
        case Type::float16: return load_as<T, Half>(data, start, stride, n, to);
        case Type::bfloat16: return load_as<T, BFloat>(data, start, stride, n, to);
        case Type::float32: return load_as<T, float>(data, start, stride, n, to);
        case Type::float64: return load_as<T, double>(data, start, stride, n, to);
        case Type::int8: return load_as<T, std::int8_t>(data, start, stride, n, to);
        case Type::int16: return load_as<T, std::int16_t>(data, start, stride, n, to);
        case Type::int32: return load_as<T, std::int32_t>(data, start, stride, n, to);
        case Type::int64: return load_as<T, std::int64_t>(data, start, stride, n, to);
        case Type::uint8: return load_as<T, std::uint8_t>(data, start, stride, n, to);
        case Type::uint16: return load_as<T, std::uint16_t>(data, start, stride, n, to);
        case Type::uint32: return load_as<T, std::uint32_t>(data, start, stride, n, to);
        case Type::uint64: return load_as<T, std::uint64_t>(data, start, stride, n, to);
    }
}

template <class T, class To>
PARFOCAL_BLOCK void store_as(void* data, ptrdiff_t start, ptrdiff_t stride, size_t n, const T* __restrict from) {
    To* __restrict to = static_cast<To*>(data) + start;
    if (stride == 1)
        for (size_t i = 0; i < n; ++i) to[i] = Narrow<To>::from(from[i]);
    else
        for (size_t i = 0; i < n; ++i) to[ptrdiff_t(i) * stride] = Narrow<To>::from(from[i]);
}

// Results are always floating, so other types do not occur.
template <class T>
void store(void* data, Type type, ptrdiff_t start, ptrdiff_t stride, size_t n, const T* from) {
    switch (type) {
        case Type::float16: return store_as<T, Half>(data, start, stride, n, from);
        case Type::bfloat16: return store_as<T, BFloat>(data, start, stride, n, from);
        case Type::float32: return store_as<T, float>(data, start, stride, n, from);
        case Type::float64: return store_as<T, double>(data, start, stride, n, from);
        default: return;
    }
}

template <class T>
inline constexpr Type TYPE = sizeof(T) == 4 ? Type::float32 : Type::float64;

// A pointer into the array where the block is contiguous and of type T; otherwise to a converted copy in `buffer`.
template <class T>
const T* block_of(const Array& array, size_t start, size_t n, T* buffer) {
    if (array.type == TYPE<T> && array.stride == 1) return static_cast<const T*>(array.data) + start;
    load(array.data, array.type, ptrdiff_t(start) * array.stride, array.stride, n, buffer);
    return buffer;
}

// Where to write a block: into the array itself, or into `buffer`, from which write_back() copies it.
template <class T>
T* place_for(const Array& array, size_t start, T* buffer) {
    const bool direct = array.data && array.type == TYPE<T> && array.stride == 1;
    return direct ? static_cast<T*>(array.data) + start : buffer;
}

template <class T>
void write_back(const Array& array, size_t start, size_t n, const T* from, const T* buffer) {
    if (array.data && from == buffer)
        store(array.data, array.type, ptrdiff_t(start) * array.stride, array.stride, n, from);
}

}  // namespace parfocal::PARFOCAL_ISA
