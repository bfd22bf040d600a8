// How fast this machine reads memory: the limit of every decode step.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

namespace {

uint64_t fold(const uint64_t* words, size_t count) {
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) sum += words[i];
    return sum;
}

#if defined(__x86_64__)
// The widest loads that there are keep the most reads in flight.
__attribute__((target("avx2"))) uint64_t fold_avx2(const uint64_t* words, size_t count) {
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) sum += words[i];
    return sum;
}

__attribute__((target("avx512f"))) uint64_t fold_avx512(const uint64_t* words, size_t count) {
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) sum += words[i];
    return sum;
}
#endif

auto widest_fold() {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) return fold_avx512;
    if (__builtin_cpu_supports("avx2")) return fold_avx2;
#endif
    return fold;
}

}  // namespace

// Bytes per second at which `threads` threads read a buffer once, each its own part.
extern "C" double llmchat_read_bandwidth(const void* data, size_t bytes, int threads) {
    const auto* words = static_cast<const uint64_t*>(data);
    const size_t count = bytes / sizeof(uint64_t);
    const auto read = widest_fold();
    std::vector<uint64_t> sums(threads);
    std::vector<std::thread> others;
    const auto part = [&](int id) {
        const size_t from = count * id / threads, to = count * (id + 1) / threads;
        sums[id] = read(words + from, to - from);
    };
    const auto began = std::chrono::steady_clock::now();
    for (int id = 1; id < threads; id++) others.emplace_back(part, id);
    part(0);
    for (auto& one : others) one.join();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
    return double(bytes) / seconds.count();
}
