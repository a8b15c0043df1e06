// Threads for one large job.  They are started for a call and joined before it returns.  No thread lives on between
// calls, so a process may fork at any time, and nothing has to be shut down.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <system_error>
#include <thread>
#include <vector>

#include "kernels.hpp"

namespace parfocal {

// With fewer logits than this, another thread costs more than it saves: starting one takes about 20 us, and computing
// these logits 60 to 200 us.
inline constexpr std::size_t LOGITS_PER_THREAD = 1 << 17;

// Logits in a chunk.  The borders of chunks, and so every sum, depend only on the shape.
inline constexpr std::size_t LOGITS_PER_CHUNK = 1 << 16;

inline int available_threads() { return std::max(1, int(std::thread::hardware_concurrency())); }

// Adds a value to a running sum, and keeps what rounding lost (Neumaier 1974).
inline void add(Result& result, double value) {
    const double sum = result.sum + value, kept = sum - result.sum;
    const double lost = (result.sum - (sum - kept)) + (value - kept);
    result.sum = sum;
    if (std::isfinite(lost)) result.lost += lost;
}

// Calls kernel(begin, end, result) for all chunks of `samples` samples of `logits_each` logits, on at most `threads`
// threads.
template <class Kernel>
Result run(std::size_t samples, std::size_t logits_each, int threads, Kernel kernel) {
    const std::size_t chunk = std::max<std::size_t>(1, LOGITS_PER_CHUNK / std::max<std::size_t>(1, logits_each));
    const std::size_t chunks = (samples + chunk - 1) / chunk;
    std::vector<Result> results(chunks);
    std::atomic<std::size_t> next{0};
    const auto work = [&] {
        for (std::size_t i; (i = next.fetch_add(1)) < chunks;)
            kernel(i * chunk, std::min(samples, (i + 1) * chunk), results[i]);
    };
    const std::size_t useful =
        std::min({std::size_t(std::max(1, threads)), chunks, samples * logits_each / LOGITS_PER_THREAD});
    std::vector<std::thread> others;
    others.reserve(useful);
    for (std::size_t i = 1; i < useful; ++i) {
        try {
            others.emplace_back(work);
        } catch (const std::system_error&) {  // the system has no more threads: those that run do the work
            break;
        }
    }
    work();
    for (std::thread& other : others) other.join();

    Result all;
    for (const Result& part : results) {
        add(all, part.sum);
        all.lost += part.lost;
        all.soft_label |= part.soft_label;
        all.no_memory |= part.no_memory;
        if (all.bad_label < 0) all.bad_label = part.bad_label;
    }
    return all;
}

}  // namespace parfocal
