// Formats that look several numbers up at once, or pack them as digits of three: unpacked into codes of four bits, of which
// the last is the sign; they lose nothing. The blocks of a file are described by ggml's reference quantisation, and by the
// `gguf` package, which the tables come from; lookup.py makes codes of their numbers.

#include <cstring>

#include "decode.h"
#include "interface.h"

namespace llmchat {

namespace {

// A block of LOW, WIDE or ODD, as `repack` takes it.
struct Numbers {
    float scale;
    int8_t scales[kSuper / kHalf];
    uint8_t codes[kSuper / 2];  // of 32 numbers those of the first 16 in the low halves of 16 bytes, the others in the high ones
};
static_assert(sizeof(Numbers) == kCodedBytes);

template <typename Number>
Number at(const uint8_t* p) {
    Number value;
    std::memcpy(&value, p, sizeof value);
    return value;
}

float half(const uint8_t* p) { return half_to_float(at<uint16_t>(p)); }

// For each byte of signs, the last bit of the codes of those that are set.
struct Signs {
    uint64_t of[256] = {};
    constexpr Signs() {
        for (unsigned signs = 0; signs < 256; signs++) {
            for (int i = 0; i < 8; i++) of[signs] |= (signs >> i & 1) * (uint64_t(8) << (8 * i));
        }
    }
};
constexpr Signs kSigns;

// A row of the table with signs: as many codes as a word has bytes.
template <typename Word>
Word codes_of(const uint8_t* table, unsigned row, unsigned signs) {
    return at<Word>(table + sizeof(Word) * row) ^ Word(kSigns.of[signs]);
}

// The codes of a group, of which `get` gives those of each word.
template <typename Word, typename Get>
void put(Numbers& n, int group, Get get) {
    constexpr int kWords = kHalf / sizeof(Word);
    for (int k = 0; k < kWords; k++) {
        const Word both = get(k) | get(k + kWords) << 4;
        std::memcpy(n.codes + kHalf * group + sizeof both * k, &both, sizeof both);
    }
}

// Seven signs; the eighth makes their number even.
unsigned eight_signs(unsigned seven) { return seven | unsigned(__builtin_parity(seven)) << 7; }

int8_t odd(unsigned n) { return int8_t(2 * n + 1); }
unsigned nibble(const uint8_t* p, int i) { return (p[i / 2] >> (4 * (i % 2))) & 15; }

void set_pair(Numbers& n, int group, int8_t scale) { n.scales[2 * group] = n.scales[2 * group + 1] = scale; }

void take_iq2_xxs(const uint8_t* p, const uint8_t* table, Numbers& n) {
    n.scale = half(p) / 8;
    p += 2;
    for (int g = 0; g < 8; g++, p += 8) {
        const uint32_t word = at<uint32_t>(p + 4);
        set_pair(n, g, odd(word >> 28));
        put<uint64_t>(n, g, [&](int k) { return codes_of<uint64_t>(table, p[k], eight_signs((word >> (7 * k)) & 127)); });
    }
}

void take_iq2_xs(const uint8_t* p, const uint8_t* table, Numbers& n) {
    n.scale = half(p) / 8;
    for (int i = 0; i < 16; i++) n.scales[i] = odd(nibble(p + 66, i));
    for (int g = 0; g < 8; g++) {
        const uint64_t four = at<uint64_t>(p + 2 + 8 * g);
        put<uint64_t>(n, g, [&](int k) {
            const unsigned both = unsigned(four >> (16 * k)) & 0xffff;
            return codes_of<uint64_t>(table, both & 511, eight_signs(both >> 9));
        });
    }
}

void take_iq2_s(const uint8_t* p, const uint8_t* table, Numbers& n) {
    n.scale = half(p) / 8;
    for (int i = 0; i < 16; i++) n.scales[i] = odd(nibble(p + 74, i));
    for (int g = 0; g < 8; g++) {
        const unsigned high = p[66 + g];
        put<uint64_t>(n, g, [&](int k) { return codes_of<uint64_t>(table, p[2 + 4 * g + k] | (high >> (2 * k) & 3) << 8, p[34 + 4 * g + k]); });
    }
}

void take_iq3_xxs(const uint8_t* p, const uint8_t* table, Numbers& n) {
    n.scale = half(p) / 4;
    for (int g = 0; g < 8; g++) {
        const uint32_t word = at<uint32_t>(p + 66 + 4 * g);
        set_pair(n, g, odd(word >> 28));
        put<uint32_t>(n, g, [&](int k) {
            const unsigned signs = eight_signs((word >> (7 * (k / 2))) & 127);
            return codes_of<uint32_t>(table, p[2 + 8 * g + k], (signs >> (4 * (k % 2))) & 15);
        });
    }
}

void take_iq3_s(const uint8_t* p, const uint8_t* table, Numbers& n) {
    n.scale = half(p);
    for (int g = 0; g < 8; g++) {
        const uint32_t signs = at<uint32_t>(p + 74 + 4 * g), high = p[66 + g];
        set_pair(n, g, odd(nibble(p + 106, g)));
        put<uint32_t>(n, g, [&](int k) { return codes_of<uint32_t>(table, p[2 + 8 * g + k] | (high >> k & 1) << 8, signs >> (4 * k) & 15); });
    }
}

// Rows of the tables of IQ1: of numbers with one more, then of those with one less.
constexpr unsigned kShifted = 2048;

void take_iq1_s(const uint8_t* p, const uint8_t* table, Numbers& n) {
    n.scale = half(p) / 8;
    for (int g = 0; g < 8; g++) {
        const unsigned high = at<uint16_t>(p + 34 + 2 * g), shifted = (high >> 15) * kShifted;
        set_pair(n, g, odd((high >> 12) & 7));
        put<uint64_t>(n, g, [&](int k) { return codes_of<uint64_t>(table, shifted + (p[2 + 4 * g + k] | ((high >> (3 * k)) & 7) << 8), 0); });
    }
}

void take_iq1_m(const uint8_t* p, const uint8_t* table, Numbers& n) {
    uint16_t scale = 0;
    for (int i = 0; i < 4; i++) scale |= uint16_t((at<uint16_t>(p + 48 + 2 * i) >> 12) << (4 * i));
    n.scale = half_to_float(scale) / 8;
    for (int i = 0; i < 16; i++) n.scales[i] = odd((at<uint16_t>(p + 48 + i / 4 * 2) >> (3 * (i % 4))) & 7);
    for (int g = 0; g < 8; g++) {
        put<uint64_t>(n, g, [&](int k) {
            const unsigned high = nibble(p + 32, 4 * g + k);
            return codes_of<uint64_t>(table, (high >> 3) * kShifted + (p[4 * g + k] | (high & 7) << 8), 0);
        });
    }
}

// Digits of three, the highest first: each byte is a fraction.
uint8_t* put_digits(const uint8_t* p, int bytes, int digits, uint8_t* to) {
    uint8_t power = 1;
    for (int digit = 0; digit < digits; digit++, power = uint8_t(3 * power)) {
        for (int i = 0; i < bytes; i++) *to++ = uint8_t(uint8_t(p[i] * power) * 3 >> 8);
    }
    return to;
}

// Codes of digits, which are counted from -1.
void put_codes(const uint8_t (&digits)[kSuper], Numbers& n) {
    const auto code = [](uint8_t digit) { return uint8_t(digit ? digit - 1 : 9); };
    const uint8_t* d = digits;
    uint8_t* to = n.codes;
    for (int g = 0; g < kSuper / kGroup; g++, d += kGroup, to += kHalf) {
        for (int i = 0; i < kHalf; i++) to[i] = uint8_t(code(d[i]) | code(d[i + kHalf]) << 4);
    }
    std::memset(n.scales, 1, sizeof n.scales);
}

void take_tq1_0(const uint8_t* p, const uint8_t*, Numbers& n) {
    uint8_t digits[kSuper];
    n.scale = half(p + 52);
    put_digits(p + 48, 4, 4, put_digits(p + 32, 16, 5, put_digits(p, 32, 5, digits)));
    put_codes(digits, n);
}

void take_tq2_0(const uint8_t* p, const uint8_t*, Numbers& n) {
    uint8_t digits[kSuper], *to = digits;
    n.scale = half(p + 64);
    for (const uint8_t* end = p + 64; p < end; p += 32) {
        for (int shift = 0; shift < 8; shift += 2) {
            for (int i = 0; i < 32; i++) *to++ = uint8_t((p[i] >> shift) & 3);
        }
    }
    put_codes(digits, n);
}

struct Taking {
    int bytes, table_bytes;  // of a block in the file, and of the table
    void (*take)(const uint8_t*, const uint8_t*, Numbers&);
    Format becomes = Format::LOW;
};

constexpr Taking kTakings[LOOK_UPS] = {
    {50, 2 * kShifted * 8, take_iq1_s}, {56, 2 * kShifted * 8, take_iq1_m}, {66, 256 * 8, take_iq2_xxs},
    {74, 512 * 8, take_iq2_xs},         {82, 1024 * 8, take_iq2_s},         {98, 256 * 4, take_iq3_xxs, Format::WIDE},
    {110, 512 * 4, take_iq3_s, Format::ODD}, {54, 0, take_tq1_0},           {66, 0, take_tq2_0},
};

}  // namespace

Format looked_up_as(int kind) { return kTakings[kind].becomes; }

bool look_up_fits(int kind, size_t blocks, size_t bytes, size_t table_bytes) {
    if (kind < 0 || kind >= LOOK_UPS) return false;
    return bytes == blocks * kTakings[kind].bytes && table_bytes == size_t(kTakings[kind].table_bytes);
}

void look_up(int kind, const uint8_t* from, size_t first, size_t end, const uint8_t* table, uint8_t* to) {
    const Taking& taking = kTakings[kind];
    Numbers n;
    for (size_t i = first; i < end; i++) {
        taking.take(from + i * taking.bytes, table, n);
        std::memcpy(to + (i - first) * sizeof n, &n, sizeof n);
    }
}

}  // namespace llmchat
