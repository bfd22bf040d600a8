// From a file's rows to blocks of 16 rows: see Layout. The blocks of a file are described by ggml's
// reference quantisation, and by the `gguf` package that the tests compare with.

#include <algorithm>
#include <cstring>

#include "decode.h"

namespace llmchat {

namespace {

constexpr uint16_t kHalfSign = 0x8000;

// What one row has in `columns()` columns: a block of the file, taken apart.
struct Unit {
    uint8_t stored[kSuper];
    int8_t scales[kSuper / kHalf], leasts[kSuper / kHalf];  // of superblocks
    uint16_t scale, least;                                  // 16-bit floats, of the layout's kind
    float whole;                                            // the scale, where it is a float
};

float brain_to_float(uint16_t brain) {
    const uint32_t bits = uint32_t(brain) << 16;
    float f;
    std::memcpy(&f, &bits, sizeof f);
    return f;
}

uint16_t half_at(const uint8_t* p) {
    uint16_t half;
    std::memcpy(&half, p, 2);
    return half;
}

// Fields of `width` bits: first the lowest field of `run` bytes, then their next, and so on.
void fields(const uint8_t* p, int bytes, int run, int width, uint8_t* to) {
    for (const uint8_t* end = p + bytes; p < end; p += run) {
        for (int shift = 0; shift < 8; shift += width) {
            for (int i = 0; i < run; i++) *to++ = uint8_t((p[i] >> shift) & ((1 << width) - 1));
        }
    }
}

void add_fields(const uint8_t* p, int bytes, int run, int width, int place, uint8_t* to) {
    uint8_t more[kSuper];
    fields(p, bytes, run, width, more);
    for (int i = 0; i < bytes * 8 / width; i++) to[i] |= uint8_t(more[i] << place);
}

// The 8 scales and 8 leasts of Q4_K and Q5_K: 6 bits each, in 12 bytes.
void six_bit_pairs(const uint8_t* p, Unit& u) {
    for (int i = 0; i < 4; i++) {
        u.scales[i] = p[i] & 63, u.leasts[i] = p[i + 4] & 63;
        u.scales[i + 4] = int8_t((p[i + 8] & 15) | ((p[i] >> 6) << 4));
        u.leasts[i + 4] = int8_t((p[i + 8] >> 4) | ((p[i + 4] >> 6) << 4));
    }
}

// The 16 scales of Q3_K: 6 bits each, counted from -32, in 12 bytes.
void six_bit_scales(const uint8_t* p, Unit& u) {
    uint8_t values[16];
    fields(p, 8, 8, 4, values);
    add_fields(p + 8, 4, 4, 2, 4, values);
    for (int i = 0; i < 16; i++) u.scales[i] = int8_t(values[i] - 32);
}

// The 8 scales of IQ4_XS: 6 bits each, counted from -32, in 2 bytes of high bits and 4 of low ones.
void eight_scales(const uint8_t* p, Unit& u) {
    uint8_t values[8];
    fields(p + 2, 4, 1, 4, values);
    add_fields(p, 2, 1, 2, 4, values);
    for (int i = 0; i < 8; i++) u.scales[i] = int8_t(values[i] - 32);
}

// 2 to the power of exponent - 128, as a bfloat16: half of what the byte of MXFP4 says, as its levels are doubled.
uint16_t power_of_two(uint8_t exponent) {
    return uint16_t(exponent < 2 ? 0x20 << exponent : (exponent - 1) << 7);
}

// Leasts of superblocks are taken away in the file, and added here.
void take_floats(const uint8_t* p, Unit& u) { u.scale = half_at(p), u.least = half_at(p + 2) ^ kHalfSign; }

template <Format F>
void take_apart(const uint8_t* p, Unit& u) {
    switch (F) {
        case Format::Q4_0:
            u.scale = half_at(p);
            return fields(p + 2, 16, 16, 4, u.stored);
        case Format::Q4_1:
            u.scale = half_at(p), u.least = half_at(p + 2);
            return fields(p + 4, 16, 16, 4, u.stored);
        case Format::Q5_0:
            u.scale = half_at(p);
            fields(p + 6, 16, 16, 4, u.stored);
            for (int i = 0; i < kGroup; i++) u.stored[i] |= uint8_t(((p[2 + i / 8] >> (i % 8)) & 1) << 4);
            return;
        case Format::Q5_1:
            u.scale = half_at(p), u.least = half_at(p + 2);
            fields(p + 8, 16, 16, 4, u.stored);
            for (int i = 0; i < kGroup; i++) u.stored[i] |= uint8_t(((p[4 + i / 8] >> (i % 8)) & 1) << 4);
            return;
        case Format::Q8_0:
            u.scale = half_at(p);
            for (int i = 0; i < kGroup; i++) u.stored[i] = uint8_t(p[2 + i] + 128);
            return;
        case Format::Q2_K:
            for (int i = 0; i < 16; i++) u.scales[i] = p[i] & 15, u.leasts[i] = p[i] >> 4;
            fields(p + 16, 64, 32, 2, u.stored);
            return take_floats(p + 80, u);
        case Format::Q3_K:
            fields(p + 32, 64, 32, 2, u.stored);
            add_fields(p, 32, 32, 1, 2, u.stored);
            six_bit_scales(p + 96, u);
            u.scale = half_at(p + 108);
            return;
        case Format::Q4_K:
            take_floats(p, u), six_bit_pairs(p + 4, u);
            return fields(p + 16, 128, 32, 4, u.stored);
        case Format::Q5_K:
            take_floats(p, u), six_bit_pairs(p + 4, u);
            fields(p + 48, 128, 32, 4, u.stored);
            return add_fields(p + 16, 32, 32, 1, 4, u.stored);
        case Format::Q6_K:
            fields(p, 128, 64, 4, u.stored);
            add_fields(p + 128, 64, 32, 2, 4, u.stored);
            std::memcpy(u.scales, p + 192, 16);
            u.scale = half_at(p + 208);
            return;
        case Format::IQ4_NL:
            u.scale = half_at(p);
            return fields(p + 2, 16, 16, 4, u.stored);
        case Format::IQ4_XS:
            u.scale = half_at(p), eight_scales(p + 2, u);
            return fields(p + 8, 128, 16, 4, u.stored);
        case Format::MXFP4:
            u.scale = power_of_two(p[0]);
            return fields(p + 1, 16, 16, 4, u.stored);
        case Format::LOW:
        case Format::WIDE:
        case Format::ODD:
            std::memcpy(&u.whole, p, 4), std::memcpy(u.scales, p + 4, 16);
            return fields(p + 20, kSuper / 2, kHalf, 4, u.stored);
        case Format::AFFINE8:
            u.scale = half_at(p), u.least = half_at(p + 2), std::memcpy(u.stored, p + 4, kGroup);
            return;
        default: return;
    }
}

// Puts 32 columns of one row into its lane of the planes; a word holds 4 columns.
template <Layout L>
void place_group(const uint8_t* stored, int lane, uint8_t* planes) {
    uint32_t words[8];
    std::memcpy(words, stored, sizeof words);
    planes += 4 * lane;
    // Fields of some bits from several words, side by side in each byte of one.
    const auto put = [&](int width, int from) {
        const int count = 8 / width;
        const uint32_t mask = 0x01010101u * ((1u << width) - 1);
        for (int j = 0; j < 8; j += count, planes += 64) {
            uint32_t word = 0;
            for (int i = 0; i < count; i++) word |= ((words[j + i] >> from) & mask) << (width * i);
            std::memcpy(planes, &word, 4);
        }
    };
    if constexpr (L.bits == 8) put(8, 0);
    if constexpr (L.bits & 4) put(4, 0);
    if constexpr (L.bits & 2) put(2, L.bits & 4);
    if constexpr (L.bits & 1) put(1, L.bits & 6);
}

template <Layout L>
void place(const Unit& u, int lane, uint8_t* to) {
    constexpr int kGroups = L.columns() / kGroup;
    for (int g = 0; g < kGroups; g++) place_group<L>(u.stored + g * kGroup, lane, to + g * L.plane_bytes());
    uint8_t* scales = to + kGroups * L.plane_bytes();
    uint8_t* leasts = scales + L.scale_bytes();
    if constexpr (L.is_super) {
        for (int i = 0; i < kSuper / L.step; i++) {
            scales[i * kRows + lane] = uint8_t(u.scales[i]);
            if (L.has_least) leasts[i * kRows + lane] = uint8_t(u.leasts[i]);
        }
        scales = to + L.bytes() - 4 * kRows, leasts = scales + 2 * kRows;
    }
    if constexpr (L.scale == Scale::Float) std::memcpy(scales + 4 * lane, &u.whole, 4);
    else std::memcpy(scales + 2 * lane, &u.scale, 2);
    if constexpr (L.has_least) std::memcpy(leasts + 2 * lane, &u.least, 2);
}

constexpr int file_bytes(Format format) {  // of a block
    switch (format) {
        case Format::F32: return 4;
        case Format::F16: return 2;
        case Format::BF16: return 2;
        case Format::Q4_0: return 18;
        case Format::Q4_1: return 20;
        case Format::Q5_0: return 22;
        case Format::Q5_1: return 24;
        case Format::Q8_0: return 34;
        case Format::Q2_K: return 84;
        case Format::Q3_K: return 110;
        case Format::Q4_K: return 144;
        case Format::Q5_K: return 176;
        case Format::Q6_K: return 210;
        case Format::IQ4_NL: return 18;
        case Format::IQ4_XS: return 136;
        case Format::MXFP4: return 17;
        case Format::LOW:
        case Format::WIDE:
        case Format::ODD: return kCodedBytes;
        case Format::AFFINE8: return 4 + kGroup;
    }
    return 0;
}

// Rows first to end of the matrix, all in one block of rows; `from` is the file's row `first`.
template <Format F>
void repack_block(const uint8_t* from, int first, int end, int cols, uint8_t* to) {
    constexpr Layout L = layout_of(F);
    constexpr size_t kBytes = file_bytes(F);
    if constexpr (L.bits == 0) {
        for (int row = first; row < end; row++, from += size_t(cols) * kBytes) {
            uint8_t* p = to + (row % kRows) * kBytes;
            for (int k = 0; k < cols; k++) std::memcpy(p + size_t(k) * kRows * kBytes, from + k * kBytes, kBytes);
        }
    } else {
        const int units = cols / L.columns();
        Unit unit;
        for (int row = first; row < end; row++) {
            for (int i = 0; i < units; i++, from += kBytes) {
                take_apart<F>(from, unit);
                place<L>(unit, row % kRows, to + size_t(i) * L.bytes());
            }
        }
    }
}

template <Format F>
void read_numbers(const uint8_t* from, int cols, float* to) {
    constexpr Layout L = layout_of(F);
    if constexpr (F == Format::F32) {
        std::memcpy(to, from, size_t(cols) * sizeof *to);
    } else if constexpr (F == Format::F16) {
        for (int i = 0; i < cols; i++) to[i] = half_to_float(half_at(from + 2 * i));
    } else if constexpr (F == Format::BF16) {
        for (int i = 0; i < cols; i++) to[i] = brain_to_float(half_at(from + 2 * i));
    } else {
        Unit u;
        for (int at = 0; at < cols; at += L.columns(), from += file_bytes(F)) {
            take_apart<F>(from, u);
            const float scale = L.scale == Scale::Float ? u.whole : L.scale == Scale::Brain ? brain_to_float(u.scale) : half_to_float(u.scale);
            const float least = L.has_least ? half_to_float(u.least) : 0;
            for (int i = 0; i < L.columns(); i++) {
                const int level = L.levels == Levels::Even ? u.stored[i] : kLevels[int(L.levels)][u.stored[i]];
                const int part = i / L.step, stored = level - L.offset;
                const float product = (L.is_super ? scale * u.scales[part] : scale) * float(stored);
                to[at + i] = L.has_least ? product + (L.is_super ? least * u.leasts[part] : least) : product;
            }
        }
    }
}

template <Format F>
void repack_rows(const uint8_t* from, int first_row, int rows, int cols, uint8_t* to) {
    const size_t block_bytes = repacked_bytes(F, kRows, cols), row_bytes = file_row_bytes(F, cols);
    for (int row = first_row; row < first_row + rows;) {
        const int end = std::min((row / kRows + 1) * kRows, first_row + rows);
        repack_block<F>(from + size_t(row - first_row) * row_bytes, row, end, cols, to + size_t(row / kRows) * block_bytes);
        row = end;
    }
}

}  // namespace

size_t repacked_bytes(Format format, int rows, int cols) {
    const size_t blocks = (size_t(rows) + kRows - 1) / kRows;
    const Layout layout = layout_of(format);
    if (layout.bits == 0) return blocks * kRows * size_t(cols) * file_bytes(format);
    return blocks * size_t(cols / layout.columns()) * layout.bytes();
}

size_t file_row_bytes(Format format, int cols) {
    return size_t(cols / columns_together(format)) * file_bytes(format);
}

void repack(Format format, const uint8_t* from, int first_row, int rows, int cols, uint8_t* to) {
    with_format(format, [&]<Format F>() { repack_rows<F>(from, first_row, rows, cols, to); });
}

void read_row(Format format, const uint8_t* from, int cols, float* to) {
    with_format(format, [&]<Format F>() { read_numbers<F>(from, cols, to); });
}

}  // namespace llmchat
