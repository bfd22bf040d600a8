// Positions side by side: see PackedTile.

#include <cstring>

#include "decode.h"

namespace llmchat {

void pack(const Activations* x, int positions, int cols, PackedTile& to) {
    for (int t = 0; t < kTile; t++) {
        int32_t* digits = to.digits + t;
        for (int at = 0; at < cols; at += 4, digits += 2 * kTile) {
            digits[0] = digits[kTile] = 0;
            if (t >= positions) continue;
            std::memcpy(digits, x[t].low + at, 4), std::memcpy(digits + kTile, x[t].high + at, 4);
        }
        for (int g = 0; g < cols / kGroup; g++) to.scale[g * kTile + t] = t < positions ? x[t].scale[g] : 0.0f;
        for (int h = 0; h < cols / kHalf; h++) to.total[h * kTile + t] = t < positions ? x[t].total[h] : 0;
    }
}

}  // namespace llmchat
