// Formats that look several numbers up at once, or pack them as digits of three: unpacked into signed bytes of SIGNED8,
// which lose nothing. The blocks of a file are described by ggml's reference quantisation, and by the `gguf` package,
// which the tables come from.

#include <cstring>

#include "decode.h"
#include "interface.h"

namespace llmchat {

namespace {

// A block of SIGNED8, as `repack` takes it.
struct Numbers {
    float scale;
    int8_t scales[kSuper / kHalf];
    uint8_t stored[kSuper];  // counted from -128
};
static_assert(sizeof(Numbers) == kSignedBytes);

template <typename Number>
Number at(const uint8_t* p) {
    Number value;
    std::memcpy(&value, p, sizeof value);
    return value;
}

float half(const uint8_t* p) { return half_to_float(at<uint16_t>(p)); }

// For each byte of signs, ones in the bytes of those that are set.
struct Masks {
    uint64_t of[256] = {};
    constexpr Masks() {
        for (unsigned signs = 0; signs < 256; signs++) {
            for (int i = 0; i < 8; i++) of[signs] |= (signs >> i & 1) * (uint64_t(255) << (8 * i));
        }
    }
};
constexpr Masks kMasks;

// A row of the table, numbers from 0 to 127, with signs; as many bytes as a word has, all at once.
template <typename Word>
void put(const int8_t* row, unsigned signs, uint8_t* to) {
    constexpr Word kMiddle = Word(0x8080808080808080);
    Word numbers, mask = Word(kMasks.of[signs]);
    std::memcpy(&numbers, row, sizeof numbers);
    numbers = ((kMiddle | numbers) & ~mask) | ((kMiddle - numbers) & mask);
    std::memcpy(to, &numbers, sizeof numbers);
}

// Seven signs; the eighth makes their number even.
unsigned eight_signs(unsigned seven) { return seven | unsigned(__builtin_parity(seven)) << 7; }

int8_t odd(unsigned n) { return int8_t(2 * n + 1); }
unsigned nibble(const uint8_t* p, int i) { return (p[i / 2] >> (4 * (i % 2))) & 15; }

void set_pair(Numbers& n, int group, int8_t scale) { n.scales[2 * group] = n.scales[2 * group + 1] = scale; }

void take_iq2_xxs(const uint8_t* p, const int8_t* table, Numbers& n) {
    n.scale = half(p) / 8;
    p += 2;
    for (int g = 0; g < 8; g++, p += 8) {
        const uint32_t word = at<uint32_t>(p + 4);
        set_pair(n, g, odd(word >> 28));
        for (int k = 0; k < 4; k++) put<uint64_t>(table + 8 * p[k], eight_signs((word >> (7 * k)) & 127), n.stored + 32 * g + 8 * k);
    }
}

void take_iq2_xs(const uint8_t* p, const int8_t* table, Numbers& n) {
    n.scale = half(p) / 8;
    for (int i = 0; i < 16; i++) n.scales[i] = odd(nibble(p + 66, i));
    for (int k = 0; k < 32; k++) {
        const unsigned both = at<uint16_t>(p + 2 + 2 * k);
        put<uint64_t>(table + 8 * (both & 511), eight_signs(both >> 9), n.stored + 8 * k);
    }
}

void take_iq2_s(const uint8_t* p, const int8_t* table, Numbers& n) {
    n.scale = half(p) / 8;
    for (int i = 0; i < 16; i++) n.scales[i] = odd(nibble(p + 74, i));
    for (int k = 0; k < 32; k++) {
        const unsigned place = p[2 + k] | ((p[66 + k / 4] >> (2 * (k % 4))) & 3u) << 8;
        put<uint64_t>(table + 8 * place, p[34 + k], n.stored + 8 * k);
    }
}

void take_iq3_xxs(const uint8_t* p, const int8_t* table, Numbers& n) {
    n.scale = half(p) / 4;
    for (int g = 0; g < 8; g++) {
        const uint32_t word = at<uint32_t>(p + 66 + 4 * g);
        set_pair(n, g, odd(word >> 28));
        for (int k = 0; k < 8; k++) {
            const unsigned signs = eight_signs((word >> (7 * (k / 2))) & 127);
            put<uint32_t>(table + 4 * p[2 + 8 * g + k], (signs >> (4 * (k % 2))) & 15, n.stored + 32 * g + 4 * k);
        }
    }
}

void take_iq3_s(const uint8_t* p, const int8_t* table, Numbers& n) {
    n.scale = half(p);
    for (int g = 0; g < 8; g++) set_pair(n, g, odd(nibble(p + 106, g)));
    for (int k = 0; k < 64; k++) {
        const unsigned place = p[2 + k] | ((p[66 + k / 8] >> (k % 8)) & 1u) << 8;
        put<uint32_t>(table + 4 * place, (p[74 + k / 2] >> (4 * (k % 2))) & 15, n.stored + 4 * k);
    }
}

// Eight numbers of which the table has eight times each, with one more or one less.
void put_shifted(const int8_t* row, bool less, uint8_t* to) {
    for (int i = 0; i < 8; i++) to[i] = uint8_t(128 + row[i] + (less ? -1 : 1));
}

void take_iq1_s(const uint8_t* p, const int8_t* table, Numbers& n) {
    n.scale = half(p) / 8;
    for (int g = 0; g < 8; g++) {
        const unsigned high = at<uint16_t>(p + 34 + 2 * g);
        set_pair(n, g, odd((high >> 12) & 7));
        for (int k = 0; k < 4; k++) {
            const unsigned place = p[2 + 4 * g + k] | ((high >> (3 * k)) & 7) << 8;
            put_shifted(table + 8 * place, high >> 15, n.stored + 32 * g + 8 * k);
        }
    }
}

void take_iq1_m(const uint8_t* p, const int8_t* table, Numbers& n) {
    uint16_t scale = 0;
    for (int i = 0; i < 4; i++) scale |= uint16_t((at<uint16_t>(p + 48 + 2 * i) >> 12) << (4 * i));
    n.scale = half_to_float(scale) / 8;
    for (int i = 0; i < 16; i++) n.scales[i] = odd((at<uint16_t>(p + 48 + i / 4 * 2) >> (3 * (i % 4))) & 7);
    for (int k = 0; k < 32; k++) {
        const unsigned high = nibble(p + 32, k);
        put_shifted(table + 8 * (p[k] | (high & 7) << 8), high >> 3, n.stored + 8 * k);
    }
}

// Digits of three, the highest first: each byte is a fraction.
uint8_t* put_digits(const uint8_t* p, int bytes, int digits, uint8_t* to) {
    uint8_t power = 1;
    for (int digit = 0; digit < digits; digit++, power = uint8_t(3 * power)) {
        for (int i = 0; i < bytes; i++) *to++ = uint8_t(127 + (uint8_t(p[i] * power) * 3 >> 8));
    }
    return to;
}

void take_tq1_0(const uint8_t* p, const int8_t*, Numbers& n) {
    n.scale = half(p + 52);
    std::memset(n.scales, 1, sizeof n.scales);
    put_digits(p + 48, 4, 4, put_digits(p + 32, 16, 5, put_digits(p, 32, 5, n.stored)));
}

void take_tq2_0(const uint8_t* p, const int8_t*, Numbers& n) {
    n.scale = half(p + 64);
    std::memset(n.scales, 1, sizeof n.scales);
    uint8_t* to = n.stored;
    for (const uint8_t* end = p + 64; p < end; p += 32) {
        for (int shift = 0; shift < 8; shift += 2) {
            for (int i = 0; i < 32; i++) *to++ = uint8_t(127 + ((p[i] >> shift) & 3));
        }
    }
}

struct Taking {
    int bytes, table_bytes;  // of a block in the file, and of the table
    void (*take)(const uint8_t*, const int8_t*, Numbers&);
};

constexpr Taking kTakings[LOOK_UPS] = {
    {50, 2048 * 8, take_iq1_s}, {56, 2048 * 8, take_iq1_m}, {66, 256 * 8, take_iq2_xxs},
    {74, 512 * 8, take_iq2_xs}, {82, 1024 * 8, take_iq2_s}, {98, 256 * 4, take_iq3_xxs},
    {110, 512 * 4, take_iq3_s}, {54, 0, take_tq1_0},        {66, 0, take_tq2_0},
};

}  // namespace

bool look_up_fits(int kind, size_t blocks, size_t bytes, size_t table_bytes) {
    if (kind < 0 || kind >= LOOK_UPS) return false;
    return bytes == blocks * kTakings[kind].bytes && table_bytes == size_t(kTakings[kind].table_bytes);
}

void look_up(int kind, const uint8_t* from, size_t first, size_t end, const int8_t* table, uint8_t* to) {
    const Taking& taking = kTakings[kind];
    Numbers n;
    for (size_t i = first; i < end; i++) {
        taking.take(from + i * taking.bytes, table, n);
        std::memcpy(to + i * sizeof n, &n, sizeof n);
    }
}

}  // namespace llmchat
