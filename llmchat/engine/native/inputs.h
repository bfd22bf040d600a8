// What layers add to the stream of their own embedding of a token (Gemma 4).

#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "decode.h"
#include "interface.h"

namespace llmchat {

// One position's inputs of all layers: what the stream gives, which `rows` holds, joined with the token's embedding.
inline void join_inputs(const Kernels* kernels, const Shape& s, const float* norm, const float* embedding, float* rows) {
    const float stream = 1.0f / std::sqrt(float(s.dim)), token = std::sqrt(float(s.input_dim)), both = std::sqrt(0.5f);
    for (int layer = 0; layer < s.layers; layer++, rows += s.input_dim, embedding += s.input_dim) {
        for (int i = 0; i < s.input_dim; i++) rows[i] *= stream;
        kernels->rms_norm(rows, norm, s.input_dim, s.eps, rows);
        for (int i = 0; i < s.input_dim; i++) rows[i] = (rows[i] + embedding[i] * token) * both;
    }
}

}  // namespace llmchat
