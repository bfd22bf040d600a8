// The inner loops for ARM processors of 64 bits with dot products of bytes.

#include "decode.h"
#include "interface.h"

// Older clang has the dot products only where they are on for the whole file.
#if defined(__aarch64__) && defined(__ARM_NEON) && \
    (defined(__ARM_FEATURE_DOTPROD) || !defined(__clang__) || __clang_major__ >= 16)
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstring>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

#define LLMCHAT_NEON
namespace llmchat {
namespace {
#include "kernels.inc"
}  // namespace

static const Kernels kernels = {"neon", quantise, multiply, multiply_packed, keep, attend, attend_together, spread, fold, rms_norm, layer_norm, activate};
}  // namespace llmchat

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace llmchat {
const Kernels* neon_kernels() {
#if defined(__APPLE__)
    return &kernels;  // every Apple processor of 64 bits that runs macOS has them
#elif defined(__linux__)
    constexpr unsigned long kDotProducts = 1ul << 20;  // HWCAP_ASIMDDP of the kernel's asm/hwcap.h
    return getauxval(AT_HWCAP) & kDotProducts ? &kernels : nullptr;
#else
    return nullptr;
#endif
}
}  // namespace llmchat
#else
namespace llmchat {
const Kernels* neon_kernels() { return nullptr; }
}  // namespace llmchat
#endif
