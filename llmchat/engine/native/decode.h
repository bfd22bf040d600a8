// The native decode step: what its parts share.
//
// A matrix is kept in blocks of 16 rows, so that one vector holds the same column
// of 16 rows, and in groups of 32 columns that share a scale. Activations of
// quantised matrices are rounded to 16 bits for each group of 32.

#pragma once

#include <cstddef>
#include <cstdint>

namespace llmchat {

constexpr int kRows = 16;   // rows of a block
constexpr int kGroup = 32;  // columns that share a scale
constexpr int kTile = 4;    // positions that one pass over the weights serves
constexpr int kSharers = 4; // query heads that one pass over keys and values serves

enum class Format : int32_t { F32 = 0, F16 = 1, BF16 = 2, Q4 = 3, Q8 = 4 };

struct Matrix {
    Format format = Format::F32;
    int rows = 0;
    int cols = 0;
    const uint8_t* data = nullptr;  // repacked blocks; null: the model has no such matrix
    int blocks() const { return (rows + kRows - 1) / kRows; }
    bool is_quantised() const { return format == Format::Q4 || format == Format::Q8; }
};

// One position on its way into a matrix: as floats, and in 16 bits by group.
struct Activations {
    const float* values = nullptr;
    int8_t* low = nullptr;    // value = scale * (256 * high + low)
    int8_t* high = nullptr;
    int16_t* whole = nullptr;
    float* scale = nullptr;   // of each group
    int32_t* total = nullptr; // sum of each group's 16-bit values
};

// Keys and values of one sequence. Keys lie in blocks of 16 positions, transposed.
struct Cache {
    int capacity = 0;
    float* keys = nullptr;    // [layer][kv head][capacity / 16][head_dim][16]
    float* values = nullptr;  // [layer][kv head][capacity][head_dim]
    float* memory = nullptr;
    size_t bytes = 0;
};

// The inner loops, compiled once for each instruction set.
struct Kernels {
    const char* name;
    // 16-bit values of `cols` floats (a multiple of kGroup) into `to`.
    void (*quantise)(const float* x, int cols, Activations& to);
    // y[t][row] (+)= matrix * x[t] for the rows of some blocks; y has whole blocks of rows.
    void (*multiply)(const Matrix&, const Activations* x, int positions, int first_block, int end_block,
                     float* y, size_t stride, bool add);
    // Softmax attention of up to kSharers query heads over `length` positions of one key-value head.
    void (*attend)(const float* const* queries, int heads, const float* keys, const float* values, int length,
                   int head_dim, float scale, float* scores, float* const* out);
    void (*rms_norm)(const float* x, const float* weight, int dim, float eps, float* y);
    void (*layer_norm)(const float* x, const float* weight, const float* bias, int dim, float eps, float* y);
    // gate = silu(gate) * up
    void (*swiglu)(float* gate, const float* up, int count);
};

const Kernels* avx512_kernels();  // null where the compiler or the machine has them not
const Kernels* avx2_kernels();
const Kernels* portable_kernels();

size_t repacked_bytes(Format format, int rows, int cols);

}  // namespace llmchat
