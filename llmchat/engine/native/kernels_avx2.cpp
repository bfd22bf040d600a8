// The inner loops for x86 processors with AVX2, FMA and F16C.

#include "decode.h"
#include "interface.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

#define LLMCHAT_AVX2
namespace llmchat {
namespace {
#include "kernels.inc"
}  // namespace

static const Kernels kernels = {"avx2", quantise, multiply, multiply_packed, keep, attend, attend_together, spread, fold, rms_norm, layer_norm, activate};
}  // namespace llmchat

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace llmchat {
const Kernels* avx2_kernels() {
    const bool there = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    return there ? &kernels : nullptr;
}
}  // namespace llmchat
#else
namespace llmchat {
const Kernels* avx2_kernels() { return nullptr; }
}  // namespace llmchat
#endif
