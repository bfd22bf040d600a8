// The inner loops in plain C++, for any processor.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "decode.h"
#include "interface.h"

namespace llmchat {
namespace {
#include "kernels.inc"
}  // namespace

const Kernels* portable_kernels() {
    static const Kernels kernels = {"portable", quantise, multiply, multiply_packed, keep, attend, attend_together, spread, fold, rms_norm, layer_norm, activate};
    return &kernels;
}
}  // namespace llmchat
