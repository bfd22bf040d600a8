// The native decode step: what its parts share.
//
// A matrix is kept in blocks of 16 rows, so that one vector holds the same column
// of 16 rows, and in groups of 32 columns. Activations of quantised matrices are
// rounded to 16 bits for each group.

#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace llmchat {

constexpr int kRows = 16;   // rows of a block
constexpr int kGroup = 32;  // columns whose activations share a scale
constexpr int kHalf = 16;   // columns whose activations share a total
constexpr int kSuper = 256; // columns of a superblock, the unit of the K-quants
constexpr int kTile = 4;    // positions that one pass over a block of weights serves
constexpr int kWide = 96;   // positions of one step at most
constexpr int kSharers = 4; // query heads that one pass over keys and values serves
constexpr int kTogether = 24; // queries of several positions that do: whole tiles of every instruction set's
constexpr int kStretch = 128; // positions of one item of attention, whatever the number of threads

inline float half_to_float(uint16_t h) {
    uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 0x3ff, bits;
    if (exponent == 31) {
        bits = sign | 0x7f800000 | (mantissa << 13);
    } else if (exponent) {
        bits = sign | ((exponent + 112) << 23) | (mantissa << 13);
    } else {
        float tiny = std::ldexp(float(mantissa), -24);
        return sign ? -tiny : tiny;
    }
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
}

// The formats of ggml that are kept as they are; three that those become which look numbers up; and one of bytes with a scale
// and a least, which quantised Hugging Face directories become. The numbers are those of model.py's list.
enum class Format : int32_t { F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, MXFP4, LOW, WIDE, ODD, AFFINE8 };
constexpr int kFormats = 20;

// What four stored bits stand for: themselves, or a place in a table.
enum class Levels : int32_t { Even, IQ4, FP4, Low, Wide, Odd };

// The numbers of such a table, with the layout's offset: ggml's levels of IQ4, twice the floats of 4 bits, and all numbers
// that its formats look up, eight without their sign and then with it: those of IQ1, IQ2 and TQ, of IQ3_XXS, and of IQ3_S.
constexpr uint8_t kLevels[][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241},
    {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0},
    {43, 44, 45, 50, 51, 52, 68, 86, 43, 42, 41, 36, 35, 34, 18, 0},
    {66, 74, 82, 90, 98, 106, 114, 124, 58, 50, 42, 34, 26, 18, 10, 0},
    {16, 18, 20, 22, 24, 26, 28, 30, 14, 12, 10, 8, 6, 4, 2, 0},
};

// What scales are: bfloat16 holds every power of two.
enum class Scale : int32_t { Half, Brain, Float };

// How a quantised weight is kept: weight = scale * (stored - offset), or scale * stored + least.
// The stored bits lie in planes of 4, 2 and 1 bits, those that make up `bits` (8: bytes as they are).
// Where there are levels, `stored` is the level. Scales (and leasts) are 16-bit floats for each group; in superblocks they are signed bytes for
// each `step` columns, times a 16-bit float for the superblock. So every number of the file is kept.
struct Layout {
    int bits = 0;  // 0: floats
    int offset = 0;
    bool has_least = false;
    bool is_super = false;
    int step = kGroup;
    Levels levels = Levels::Even;
    Scale scale = Scale::Half;  // Float in superblocks alone

    constexpr int columns() const { return is_super ? kSuper : kGroup; }
    constexpr int level_bits() const {  // of the numbers that are multiplied
        return levels == Levels::Even ? bits : levels == Levels::FP4 || levels == Levels::Odd ? 5 : 8;
    }
    constexpr int plane_bytes() const { return kRows * kGroup * bits / 8; }  // of one group
    constexpr int scale_bytes() const {  // of all scales in `columns()`, and of all leasts
        return is_super ? kSuper / step * kRows : 2 * kRows;
    }
    // Planes by group, scales, leasts; in superblocks then the two rows of floats, which keep it on a cache line.
    constexpr int bytes() const {
        return plane_bytes() * (columns() / kGroup) + scale_bytes() * (has_least ? 2 : 1) + (is_super ? 4 * kRows : 0);
    }
};

constexpr Layout layout_of(Format format) {
    switch (format) {
        case Format::Q4_0: return {4, 8};
        case Format::Q4_1: return {4, 0, true};
        case Format::Q5_0: return {5, 16};
        case Format::Q5_1: return {5, 0, true};
        case Format::Q8_0: return {8, 128};
        case Format::Q2_K: return {2, 0, true, true, kHalf};
        case Format::Q3_K: return {3, 4, false, true, kHalf};
        case Format::Q4_K: return {4, 0, true, true};
        case Format::Q5_K: return {5, 0, true, true};
        case Format::Q6_K: return {6, 32, false, true, kHalf};
        case Format::IQ4_NL: return {4, 128, false, false, kGroup, Levels::IQ4};
        case Format::IQ4_XS: return {4, 128, false, true, kGroup, Levels::IQ4};
        case Format::MXFP4: return {4, 12, false, false, kGroup, Levels::FP4, Scale::Brain};
        case Format::LOW: return {4, 43, false, true, kHalf, Levels::Low, Scale::Float};
        case Format::WIDE: return {4, 62, false, true, kHalf, Levels::Wide, Scale::Float};
        case Format::ODD: return {4, 15, false, true, kHalf, Levels::Odd, Scale::Float};
        case Format::AFFINE8: return {8, 0, true};
        default: return {};
    }
}

// Calls what has a version for each format.
template <typename Use>
void with_format(Format format, Use use) {
    switch (format) {
        case Format::F32: return use.template operator()<Format::F32>();
        case Format::F16: return use.template operator()<Format::F16>();
        case Format::BF16: return use.template operator()<Format::BF16>();
        case Format::Q4_0: return use.template operator()<Format::Q4_0>();
        case Format::Q4_1: return use.template operator()<Format::Q4_1>();
        case Format::Q5_0: return use.template operator()<Format::Q5_0>();
        case Format::Q5_1: return use.template operator()<Format::Q5_1>();
        case Format::Q8_0: return use.template operator()<Format::Q8_0>();
        case Format::Q2_K: return use.template operator()<Format::Q2_K>();
        case Format::Q3_K: return use.template operator()<Format::Q3_K>();
        case Format::Q4_K: return use.template operator()<Format::Q4_K>();
        case Format::Q5_K: return use.template operator()<Format::Q5_K>();
        case Format::Q6_K: return use.template operator()<Format::Q6_K>();
        case Format::IQ4_NL: return use.template operator()<Format::IQ4_NL>();
        case Format::IQ4_XS: return use.template operator()<Format::IQ4_XS>();
        case Format::MXFP4: return use.template operator()<Format::MXFP4>();
        case Format::LOW: return use.template operator()<Format::LOW>();
        case Format::WIDE: return use.template operator()<Format::WIDE>();
        case Format::ODD: return use.template operator()<Format::ODD>();
        case Format::AFFINE8: return use.template operator()<Format::AFFINE8>();
    }
}

// Columns that come together: rows are a multiple of them.
constexpr int columns_together(Format format) {
    const Layout layout = layout_of(format);
    return layout.bits ? layout.columns() : 1;
}

struct Matrix {
    Format format = Format::F32;
    int rows = 0;
    int cols = 0;
    const uint8_t* data = nullptr;  // repacked blocks
    int blocks() const { return (rows + kRows - 1) / kRows; }
    bool is_quantised() const { return layout_of(format).bits > 0; }
};

// One position on its way into a matrix: as floats, and in 16 bits by group.
struct Activations {
    const float* values = nullptr;
    int8_t* low = nullptr;    // value = scale * (256 * high + low)
    int8_t* high = nullptr;
    int16_t* whole = nullptr;
    float* scale = nullptr;   // of each group
    int32_t* total = nullptr; // sum of the 16-bit values of each half of a group
    // A value far above the rest of its group would take their precision; it stands in a group of its own,
    // at the same place of another vector, which holds nothing else in the superblocks of such groups.
    Activations* outliers = nullptr;
    int32_t* outlying = nullptr;  // the groups that have one, in their order
    int outlying_count = 0;
};

// kTile positions side by side, as products of many positions read them: for 4 columns the low digits of every position,
// then the high ones; scales and totals of every position for one group after the other.
struct PackedTile {
    int32_t* digits = nullptr;
    float* scale = nullptr;
    int32_t* total = nullptr;
};

// How the keys or values of one head lie: in stretches, and there by groups of up to 32 columns, so that attention
// reads them in the order of memory. A group has the scale of each position, then its numbers: of values all columns of
// one position side by side, of keys the 16 positions of a block, for one column after the other. They are kept as
// finely as activations: in 16 bits, but as floats with a scale of 1 where the weights are floats too.
// Columns are made up to whole vectors of 16.
struct HeadLayout {
    int head_dim;
    bool in_floats;
    constexpr int columns() const { return (head_dim + 15) / 16 * 16; }
    constexpr int columns_from(int first) const { return columns() - first < kGroup ? columns() - first : kGroup; }
    constexpr size_t group_bytes(int columns) const { return kStretch * (4 + columns * (in_floats ? 4 : 2)); }
    constexpr size_t stretch_bytes() const {
        return columns() / kGroup * group_bytes(kGroup) + (columns() % kGroup ? group_bytes(columns() % kGroup) : 0);
    }
    constexpr int part_size() const { return columns() + 2; }  // of what `attend` writes for a head
    constexpr int scratch_size() const { return kTogether * (2 * kStretch + kGroup) + kSharers * columns(); }  // of what it needs beside
    constexpr HeadLayout spread() const { return {head_dim, true}; }  // the same in floats
};

// Queries that share a stretch of keys and values: those of some positions' `heads`, one position behind the other.
struct Sharers {
    int heads, count = 0;
    const float* queries[kTogether];
    float* out[kTogether];
    int skipped[kTogether], lengths[kTogether];  // each sees the positions from `skipped` on that lie before its length
};

// The inner loops, compiled once for each instruction set.
struct Kernels {
    const char* name;
    // 16-bit values of `cols` floats (a multiple of kGroup) into `to`, which has `outliers`.
    void (*quantise)(const float* x, int cols, Activations& to);
    // y[t][row] (+)= matrix * x[t] for the rows of some blocks; y has whole blocks of rows.
    void (*multiply)(const Matrix&, const Activations* x, int positions, int first_block, int end_block,
                     float* y, size_t stride, bool add);
    // The same for quantised matrices and any number of positions, which are also given packed; null without it.
    void (*multiply_packed)(const Matrix&, const Activations* x, const PackedTile* tiles, int positions, int first_block,
                            int end_block, float* y, size_t stride, bool add);
    // Rounds one head's key or value into its place of a stretch.
    void (*keep)(const float* x, HeadLayout, int place, bool is_key, uint8_t* stretch);
    // Softmax attention of up to kSharers query heads over the positions `skipped` to `length` of a stretch. Scores are
    // capped unless softcap is 0. For each head `out` has the weighted sums of all columns, then the highest score, then
    // the sum of the weights. `next` is where the keys of the next call lie.
    void (*attend)(const float* const* queries, int heads, const uint8_t* keys, const uint8_t* values, const uint8_t* next,
                   int skipped, int length, HeadLayout, float scale, float softcap, float* scratch, float* const* out);
    // The same for queries of several positions, over keys and values that were spread, whose layout is given.
    void (*attend_together)(const Sharers&, const uint8_t* keys, const uint8_t* values, HeadLayout, float scale, float softcap, float* scratch);
    // Makes a stretch of 16-bit numbers one of floats with the same scales.
    void (*spread)(const uint8_t* stretch, HeadLayout, uint8_t* to);
    // Joins what was found in a stretch to what was found in those before it.
    void (*fold)(const float* part, HeadLayout, float* found);
    void (*rms_norm)(const float* x, const float* weight, int dim, float eps, float* y);
    void (*layer_norm)(const float* x, const float* weight, const float* bias, int dim, float eps, float* y);
    // gate = act(gate) * up, or act(gate) where there is no up; the kinds are those of interface.h.
    void (*activate)(int kind, float* gate, const float* up, int count);
};

// Puts up to kTile positions of `cols` columns side by side; those that are missing are nothing.
void pack(const Activations* x, int positions, int cols, PackedTile& to);

const Kernels* avx512_kernels();  // null where the compiler or the machine has them not
const Kernels* avx2_kernels();
const Kernels* neon_kernels();
const Kernels* portable_kernels();

// Bytes of a repacked matrix, and of one row as the file has it.
size_t repacked_bytes(Format format, int rows, int cols);
size_t file_row_bytes(Format format, int cols);

// The numbers of one row of the file's format.
void read_row(Format format, const uint8_t* from, int cols, float* to);

// Bytes of a block of LOW, WIDE and ODD in its rows: a float, 16 scales and 256 codes.
constexpr int kCodedBytes = 4 + kSuper / kHalf + kSuper / 2;

// What a format of interface.h's LookUp becomes, blocks `first` to `end` as it, and whether their sizes are right.
Format looked_up_as(int kind);
bool look_up_fits(int kind, size_t blocks, size_t bytes, size_t table_bytes);
void look_up(int kind, const uint8_t* from, size_t first, size_t end, const uint8_t* table, uint8_t* to);

// Puts rows of the file's format into blocks, as rows `first_row` and on of a matrix.
void repack(Format format, const uint8_t* from, int first_row, int rows, int cols, uint8_t* to);

}  // namespace llmchat
