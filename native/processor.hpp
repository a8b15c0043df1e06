// Finds which of the compiled instruction sets this processor can run under this operating system.
//
// It uses CPUID directly: __builtin_cpu_supports knows the levels by name only from GCC 12 and clang 18 on, and Visual
// C++ (whose lines here are untried) has nothing like it.  Bits: Intel SDM, CPUID; levels: x86-64 psABI.  Processors
// other than 64-bit x86 run the baseline.
#pragma once

#if defined(__x86_64__) || (defined(_M_X64) && !defined(_M_ARM64EC))
#define PARFOCAL_X86_64 1
#if defined(_MSC_VER) && !defined(__clang__)
#include <immintrin.h>
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#endif

namespace parfocal {

enum class Level { baseline, v3, v4 };  // each includes the ones before it

struct Processor {
    unsigned ecx1 = 0;          // leaf 1: AVX, FMA and older features
    unsigned ebx7 = 0;          // leaf 7: AVX2, BMI, AVX-512
    unsigned ecx_extended = 0;  // leaf 0x80000001: LZCNT
    unsigned saved = 0;         // XCR0: the registers that the operating system saves for each thread
};

inline Level level(const Processor& p) {
    constexpr unsigned v2 = 1u << 0 | 1u << 9 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 23;  // sse3 to 4.2, cx16, popcnt
    constexpr unsigned v3 = 1u << 12 | 1u << 22 | 1u << 27 | 1u << 28 | 1u << 29;        // fma movbe osxsave avx f16c
    constexpr unsigned v3_leaf7 = 1u << 3 | 1u << 5 | 1u << 8;                           // bmi avx2 bmi2
    constexpr unsigned v3_extended = 1u << 0 | 1u << 5;                                  // lahf lzcnt
    constexpr unsigned v4_leaf7 = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;  // avx512 f dq cd bw vl
    const auto has = [](unsigned value, unsigned bits) { return (value & bits) == bits; };
    if (!has(p.ecx1, v2 | v3) || !has(p.ebx7, v3_leaf7) || !has(p.ecx_extended, v3_extended) || !has(p.saved, 0x06))
        return Level::baseline;
    return has(p.ebx7, v4_leaf7) && has(p.saved, 0xe6) ? Level::v4 : Level::v3;
}

#ifdef PARFOCAL_X86_64
struct Registers {
    unsigned eax, ebx, ecx, edx;
};

inline Registers cpuid(unsigned leaf) {
#if defined(_MSC_VER) && !defined(__clang__)
    int r[4];
    __cpuidex(r, static_cast<int>(leaf), 0);
    return {unsigned(r[0]), unsigned(r[1]), unsigned(r[2]), unsigned(r[3])};
#else
    Registers r;
    __cpuid_count(leaf, 0, r.eax, r.ebx, r.ecx, r.edx);
    return r;
#endif
}

inline Processor processor() {
    Processor p;
    p.ecx1 = cpuid(1).ecx;
    if (cpuid(0).eax >= 7) p.ebx7 = cpuid(7).ebx;
    if (cpuid(0x80000000u).eax >= 0x80000001u) p.ecx_extended = cpuid(0x80000001u).ecx;
    if (!(p.ecx1 & 1u << 27)) return p;  // without OSXSAVE, reading XCR0 is an illegal instruction
#if defined(_MSC_VER) && !defined(__clang__)
    p.saved = static_cast<unsigned>(_xgetbv(0));
#else
    unsigned high;
    __asm__ volatile("xgetbv" : "=a"(p.saved), "=d"(high) : "c"(0));
#endif
#ifdef __APPLE__
    p.saved |= 0xe0;  // macOS saves AVX-512 registers, and shows them in XCR0, only from their first use on (untried)
#endif
    return p;
}
#else
inline Processor processor() { return {}; }
#endif

}  // namespace parfocal
