// Checks of the inner loops, made to run under sanitizers and emulators too. Ends with 0 if all hold.
//
//     g++ -std=c++20 -O2 -pthread -Wno-psabi -I llmchat/engine/native -o kernel_check
//         llmchat/engine/native/*.cpp tests/engine/native/kernel_check.cpp
//
// Every set of kernels that this machine runs is held against the portable ones on random shapes: bit for bit where
// the arithmetic is exact, else within a bound.

#include "decode.h"
#include "interface.h"
#include "memory.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

using namespace llmchat;

static uint64_t dice = 88172645463325252ull;
static int random_below(int n) {
    dice ^= dice << 13, dice ^= dice >> 7, dice ^= dice << 17;
    return int((dice >> 33) % uint64_t(n));
}
static int random_from(int low, int high) { return low + random_below(high - low + 1); }
static float random_float() { return float(random_from(-1000000, 1000000)) * 1e-6f; }

static std::string place;  // what is being checked
static void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "%s: does not hold: %s\n", place.c_str(), what);
    std::exit(1);
}

static std::vector<float> random_floats(size_t count) {
    std::vector<float> values(count);
    for (float& v : values) v = random_float();
    return values;
}

// Activations with memory of their own.
struct Input {
    std::vector<float> values;
    ActivationMemory memory;
    Activations& view = memory.view;
    explicit Input(int cols) : values(random_floats(cols)), memory(cols) { view.values = values.data(); }
    int cols() const { return int(values.size()); }
    int groups() const { return cols() / kGroup; }

    // What stands for a value: its own 16 bits, and the outlier of its group where it is that.
    double represented(int i) const {
        const int g = i / kGroup;
        double value = double(view.scale[g]) * view.whole[i];
        const bool has_outlier = std::find(view.outlying, view.outlying + view.outlying_count, g) != view.outlying + view.outlying_count;
        if (has_outlier) value += double(view.outliers->scale[g]) * view.outliers->whole[i];
        return value;
    }
};

static uint16_t power_of_two_half() { return uint16_t(random_from(12, 17) << 10 | random_below(2) << 15); }
static uint16_t power_of_two_brain() { return uint16_t(random_from(124, 129) << 7 | random_below(2) << 15); }
static uint8_t power_of_two_byte() {
    const int value = 1 << random_below(6);
    return uint8_t(random_below(2) ? value : -value);
}

// Blocks of random bits; their scales are powers of two, or any small numbers.
static std::vector<uint8_t> random_blocks(Format format, int rows, int cols, bool powers) {
    const Layout layout = layout_of(format);
    std::vector<uint8_t> blocks(repacked_bytes(format, rows, cols));
    const bool full = layout.bits && random_below(3) == 0;  // the largest weights
    for (uint8_t& byte : blocks) byte = uint8_t(full ? 255 : random_below(256));
    const auto put_halves = [&](size_t from, size_t end) {
        for (; from < end; from += 2) {
            const uint16_t power = layout.scale == Scale::Brain ? power_of_two_brain() : power_of_two_half();
            const uint16_t least = layout.scale == Scale::Brain ? 0x3c00 : 0x2000;  // some numbers below 1, of either kind
            const uint16_t half = powers ? power : uint16_t(random_from(least, layout.scale == Scale::Brain ? 0x3f7f : 0x3bff) | random_below(2) << 15);
            std::memcpy(&blocks[from], &half, 2);
        }
    };
    if (layout.bits == 0) {
        if (format == Format::F16 || format == Format::BF16) put_halves(0, blocks.size());
        for (size_t i = 0; format == Format::F32 && i < blocks.size(); i += 4) {
            const float value = random_float();
            std::memcpy(&blocks[i], &value, 4);
        }
        return blocks;
    }
    const size_t planes = size_t(layout.plane_bytes()) * (layout.columns() / kGroup);
    for (size_t unit = 0; unit < blocks.size(); unit += layout.bytes()) {
        size_t floats = unit + planes;
        if (layout.is_super) {
            floats = unit + layout.bytes() - 4 * kRows;
            for (size_t i = unit + planes; powers && i < floats; i++) blocks[i] = power_of_two_byte();
        }
        if (layout.scale != Scale::Float) {
            put_halves(floats, unit + layout.bytes());
            continue;
        }
        for (; floats < unit + layout.bytes(); floats += 4) {
            const float scale = powers ? std::ldexp(1.0f, random_from(-3, 2)) : random_float();
            std::memcpy(&blocks[floats], &scale, 4);
        }
    }
    return blocks;
}

// Sets the 16-bit values as they would be for some row, with scales that are powers of two.
static void fill_exactly(Input& in) {
    const int extremes[] = {32512, -32512, 32384, 32383};  // each digit as far as it goes
    const int all = random_below(8);
    const Activations& to = in.view;
    for (int i = 0; i < in.cols(); i++) {
        const int value = all < 4 ? extremes[all] : random_from(-32512, 32512);
        const int high = (value + 128) >> 8;
        to.whole[i] = int16_t(value), to.high[i] = int8_t(high), to.low[i] = int8_t(value - 256 * high);
    }
    for (int h = 0; h < in.cols() / kHalf; h++) {
        to.total[h] = 0;
        for (int i = 0; i < kHalf; i++) to.total[h] += to.whole[h * kHalf + i];
    }
    for (int g = 0; g < in.groups(); g++) to.scale[g] = std::ldexp(1.0f, random_from(-3, 3));
}

// What some blocks of a product may differ by: a little of the sum of all magnitudes.
static void check_product(const Kernels& kernels, Format format, bool exactly) {
    const int together = columns_together(format);
    const int cols = together * random_from(1, together == 1 ? 70 : together == kSuper ? 3 : 7);
    const int rows = random_from(1, 70), positions = random_from(1, kTile);
    const std::vector<uint8_t> blocks = random_blocks(format, rows, cols, exactly);
    Matrix m = {format, rows, cols, blocks.data()};
    std::vector<std::unique_ptr<Input>> inputs;
    Activations given[kTile];
    for (int t = 0; t < positions; t++) {
        inputs.push_back(std::make_unique<Input>(cols));
        if (exactly) fill_exactly(*inputs[t]);
        else if (m.is_quantised()) {
            if (random_below(2)) inputs[t]->values[random_below(cols)] *= 100;  // an outlier
            portable_kernels()->quantise(inputs[t]->values.data(), cols, inputs[t]->view);
        }
        given[t] = inputs[t]->view;
    }
    const int first = random_below(m.blocks()), end = random_from(first, m.blocks());
    const size_t stride = size_t(m.blocks()) * kRows;
    const bool add = random_below(2);
    std::vector<float> expected = exactly ? std::vector<float>(stride * positions, 0.5f) : random_floats(stride * positions);
    std::vector<float> got = expected, before = expected;
    portable_kernels()->multiply(m, given, positions, first, end, expected.data(), stride, add);
    kernels.multiply(m, given, positions, first, end, got.data(), stride, add);
    if (exactly) return require(!std::memcmp(expected.data(), got.data(), got.size() * 4), "the same bits");
    for (size_t i = 0; i < got.size(); i++) {
        const int block = int(i % stride / kRows);
        if (block < first || block >= end) require(got[i] == before[i], "other rows are left alone");
    }
    // The magnitudes: the same product with everything made positive would need the weights; a norm serves.
    double largest = 1;
    for (float v : expected) largest = std::max(largest, std::fabs(double(v)));
    for (size_t i = 0; i < got.size(); i++) require(std::fabs(double(got[i]) - expected[i]) <= 1e-4 * largest, "next to each other");
}

// Packed positions give the same bits as a few at a time.
static void check_packed(const Kernels& kernels, Format format) {
    const int cols = columns_together(format) * random_from(1, columns_together(format) == kSuper ? 3 : 19);
    const int rows = random_from(1, 120), positions = random_from(1, 3 * kTile), stride = (rows + kRows - 1) / kRows * kRows;
    const std::vector<uint8_t> blocks = random_blocks(format, rows, cols, false);
    const Matrix m = {format, rows, cols, blocks.data()};
    std::vector<std::unique_ptr<Input>> inputs;
    std::vector<Activations> given;
    for (int t = 0; t < positions; t++) {
        inputs.push_back(std::make_unique<Input>(cols));
        if (random_below(2)) inputs[t]->values[random_below(cols)] *= 100;  // an outlier
        kernels.quantise(inputs[t]->values.data(), cols, inputs[t]->view);
        given.push_back(inputs[t]->view);
    }
    PackedMemory packed(positions, cols);
    for (int t = 0; t < positions; t += kTile) pack(&given[t], std::min(positions - t, kTile), cols, packed.tiles[t / kTile]);
    const int first = random_below(m.blocks()), end = random_from(first, m.blocks());
    const bool add = random_below(2);
    std::vector<float> expected = random_floats(size_t(stride) * positions), got = expected;
    kernels.multiply(m, given.data(), positions, first, end, expected.data(), stride, add);
    kernels.multiply_packed(m, given.data(), packed.tiles.data(), positions, first, end, got.data(), stride, add);
    require(!std::memcmp(expected.data(), got.data(), got.size() * sizeof(float)), "packed, the same bits");
}

static void check_quantise(const Kernels& kernels) {
    const int cols = kGroup * random_from(1, 20);
    Input in(cols), portable(cols);
    const int special = random_below(8);
    if (special == 1) in.values[random_below(cols)] = std::nanf("");
    if (special == 2) in.values[random_below(cols)] = INFINITY;
    if (special == 3) std::fill(in.values.begin(), in.values.end(), 0.0f);
    if (special == 4) in.values[random_below(cols)] = 3e38f;
    if (special == 5) for (float& v : in.values) v *= 1e-36f;
    if (special >= 6) for (int i = random_below(8); i >= 0; i--) in.values[random_below(cols)] *= 1000;
    kernels.quantise(in.values.data(), cols, in.view);
    portable_kernels()->quantise(in.values.data(), cols, portable.view);
    const Activations &got = in.view, &expected = portable.view;
    require(got.outlying_count == expected.outlying_count, "the same outliers");
    for (int i = 0; i < got.outlying_count; i++) require(got.outlying[i] == expected.outlying[i], "in the same groups");
    require(!std::memcmp(got.scale, expected.scale, 4 * in.groups()) || special == 1 || special == 2, "the same scales");
    for (int i = 0; i < cols; i++) {
        const int g = i / kGroup;
        require(got.whole[i] == 256 * got.high[i] + got.low[i], "digits make up the value");
        if (!std::isfinite(got.scale[g])) {
            require(!std::isfinite(expected.scale[g]) && got.whole[i] == 0, "a broken group is broken");
            continue;
        }
        require(std::abs(got.whole[i]) <= 32512 && std::abs(got.whole[i] - expected.whole[i]) <= 1, "the same values but for ties");
        const double allowed = special == 5 ? 1e-30 : 0.51 * got.scale[g] + 1e-6 * std::fabs(in.values[i]);
        require(std::fabs(in.represented(i) - in.values[i]) <= allowed, "about half a step off at most");
    }
    for (int h = 0; h < cols / kHalf; h++) {
        int sum = 0;
        for (int i = 0; i < kHalf; i++) sum += got.whole[h * kHalf + i];
        require(sum == got.total[h], "totals");
    }
}

static void require_near(const std::vector<float>& got, const std::vector<float>& expected, const char* what) {
    for (size_t i = 0; i < got.size(); i++) require(std::fabs(got[i] - expected[i]) <= 2e-5f * (1 + std::fabs(expected[i])), what);
}

// Where a column of a key or value lies in its stretch: its number, and its group's scale.
static double kept(const uint8_t* stretch, HeadLayout layout, int place, int column, bool is_key) {
    int first = 0;
    for (; column - first >= kGroup; first += kGroup) stretch += layout.group_bytes(kGroup);
    const int width = layout.columns_from(first), within = column - first;
    const int at = is_key ? place / 16 * 16 * width + within * 16 + place % 16 : place * width + within;
    float scale, whole;
    int16_t number;
    std::memcpy(&scale, stretch + place * sizeof scale, sizeof scale);
    stretch += kStretch * sizeof scale;
    if (layout.in_floats) return std::memcpy(&whole, stretch + at * sizeof whole, sizeof whole), double(scale) * whole;
    std::memcpy(&number, stretch + at * sizeof number, sizeof number);
    return double(scale) * number;
}

static void check_keep(const Kernels& kernels) {
    const HeadLayout layout = {random_from(1, 70), random_below(2) == 0};
    std::vector<float> x = random_floats(layout.head_dim);
    if (random_below(3) == 0) x[random_below(layout.head_dim)] *= 1000;
    const bool is_broken = random_below(4) == 0;
    const int broken = random_below(layout.head_dim), place = random_below(kStretch);
    if (is_broken) x[broken] = random_below(2) ? INFINITY : std::nanf("");
    std::vector<uint8_t> got(layout.stretch_bytes()), expected = got;
    const bool is_key = random_below(2);
    kernels.keep(x.data(), layout, place, is_key, got.data());
    portable_kernels()->keep(x.data(), layout, place, is_key, expected.data());
    require(got == expected || is_broken, "the same bits");
    for (int d = 0; d < layout.head_dim; d++) {
        const int first = d / kGroup * kGroup, end = std::min(first + kGroup, layout.head_dim);
        const double value = kept(got.data(), layout, place, d, is_key);
        if (layout.in_floats) {
            require(value == x[d] || (is_broken && d == broken), "as it is");
            continue;
        }
        if (is_broken && d / kGroup == broken / kGroup) {
            require(!std::isfinite(value), "a broken group is broken");
            continue;
        }
        double peak = 0;
        for (int i = first; i < end; i++) peak = std::max(peak, std::fabs(double(x[i])));
        require(std::fabs(value - x[d]) <= 0.51 * peak / 32767, "about half a step off at most");
    }
}

// Attention in stretches, joined, against softmax over all positions in double precision, with capped scores, sinks and
// windows too. What lies behind the last position, left by an earlier text, takes no part.
static void check_attention(const Kernels& kernels) {
    const HeadLayout layout = {random_from(1, 70), random_below(2) == 0};
    const int heads = random_from(1, kSharers), size = layout.head_dim, length = random_from(1, 400);
    const int first = random_below(2) ? random_below(length) : 0, skipped_stretches = first / kStretch;
    const float softcap = random_below(2) ? 0.5f + random_below(40) : 0.0f, sink = 2 * random_float();
    const bool has_sink = random_below(2);
    const int stretches = (length + kStretch - 1) / kStretch, stride = layout.part_size();
    std::vector<uint8_t> keys(stretches * layout.stretch_bytes()), values = keys;
    const std::vector<float> earlier(size, std::nanf(""));
    for (int p = 0; p < stretches * kStretch; p++) {
        const size_t start = p / kStretch * layout.stretch_bytes();
        for (auto* all : {&keys, &values}) {
            kernels.keep((p < length ? random_floats(size) : earlier).data(), layout, p % kStretch, all == &keys, &(*all)[start]);
        }
    }
    const auto queries = random_floats(size_t(heads) * size);
    std::vector<float> scratch(layout.scratch_size()), parts(size_t(heads) * stretches * stride), got(size), expected(size);
    for (int i = skipped_stretches; i < stretches; i++) {
        const float* query[kSharers];
        float* out[kSharers];
        for (int h = 0; h < heads; h++) query[h] = &queries[h * size], out[h] = &parts[(size_t(h) * stretches + i) * stride];
        const size_t from = i * layout.stretch_bytes();
        const int count = std::min(length - i * kStretch, kStretch), skipped = std::max(first - i * kStretch, 0);
        kernels.attend(query, heads, &keys[from], &values[from], nullptr, skipped, count, layout, 0.3f, softcap, scratch.data(), out);
    }
    const auto at = [&](const std::vector<uint8_t>& all, int p, int d, bool is_key) {
        return kept(&all[p / kStretch * layout.stretch_bytes()], layout, p % kStretch, d, is_key);
    };
    for (int h = 0; h < heads; h++) {
        std::vector<float> found(stride);
        found[stride - 2] = has_sink ? sink : -INFINITY, found[stride - 1] = has_sink;
        for (int i = skipped_stretches; i < stretches; i++) kernels.fold(&parts[(size_t(h) * stretches + i) * stride], layout, found.data());
        for (int d = 0; d < size; d++) got[d] = found[d] / found[stride - 1];
        std::vector<double> weights(length), mixed(size);
        double total = has_sink ? std::exp(double(sink)) : 0;
        for (int p = first; p < length; p++) {
            double score = 0;
            for (int d = 0; d < size; d++) score += at(keys, p, d, true) * queries[h * size + d];
            score *= 0.3;
            if (softcap > 0) score = softcap * std::tanh(score / softcap);
            total += weights[p] = std::exp(score);
        }
        for (int d = 0; d < size; d++) {
            for (int p = first; p < length; p++) mixed[d] += weights[p] * at(values, p, d, false);
            expected[d] = float(mixed[d] / total);
        }
        require_near(got, expected, "attention");
    }
}

// Queries of several positions that read a stretch together find the same bits as each alone; no number that a later position
// has left takes part.
static void check_together(const Kernels& kernels) {
    const HeadLayout layout = {random_from(1, 70), random_below(2) == 0}, floats = layout.spread();
    const int size = layout.head_dim, stride = layout.part_size();
    std::vector<uint8_t> keys(layout.stretch_bytes()), values = keys, spread_keys(floats.stretch_bytes()), spread_values = spread_keys;
    const int written = random_from(1, kStretch);
    for (int p = 0; p < kStretch; p++) {
        for (auto* all : {&keys, &values}) {
            kernels.keep((p < written ? random_floats(size) : std::vector<float>(size, std::nanf(""))).data(), layout, p, all == &keys, all->data());
        }
    }
    if (layout.in_floats) spread_keys = keys, spread_values = values;
    else kernels.spread(keys.data(), layout, spread_keys.data()), kernels.spread(values.data(), layout, spread_values.data());
    Sharers given;
    given.heads = random_from(1, kSharers);
    const auto queries = random_floats(size_t(kTogether) * size);
    std::vector<float> scratch(layout.scratch_size()), got(kTogether * stride), expected = got;
    const float softcap = random_below(2) ? 0.5f + random_below(40) : 0.0f;
    for (int position = random_from(1, kTogether / given.heads); position > 0; position--) {
        const int length = random_from(1, written), skipped = random_below(2) ? random_below(length) : 0;
        const int first = given.count;
        float* out[kSharers];
        for (int h = 0; h < given.heads; h++) {
            const int q = given.count++;
            given.queries[q] = &queries[q * size], given.out[q] = &got[q * stride], given.lengths[q] = length, given.skipped[q] = skipped;
            out[h] = &expected[q * stride];
        }
        kernels.attend(given.queries + first, given.heads, keys.data(), values.data(), nullptr, skipped, length, layout, 0.3f, softcap,
                       scratch.data(), out);
    }
    kernels.attend_together(given, spread_keys.data(), spread_values.data(), floats, 0.3f, softcap, scratch.data());
    require(!std::memcmp(expected.data(), got.data(), got.size() * sizeof(float)), "together, the same bits");
}

static void check_rows(const Kernels& kernels) {
    const int dim = random_from(1, 100);
    const auto x = random_floats(dim), weight = random_floats(dim), bias = random_floats(dim);
    std::vector<float> results[2][2];
    for (int i = 0; i < 2; i++) {
        const Kernels& one = i ? *portable_kernels() : kernels;
        for (auto& result : results[i]) result = x;
        one.rms_norm(x.data(), weight.data(), dim, 1e-5f, results[i][0].data());
        if (dim > 8) one.layer_norm(x.data(), weight.data(), bias.data(), dim, 1e-5f, results[i][1].data());
    }
    for (int j = 0; j < 2; j++) require_near(results[0][j], results[1][j], "norms");
}

// The definitions in double precision.
static double activated(int kind, double x) {
    switch (kind) {
        case SILU: return x / (1 + std::exp(-x));
        case GELU: return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
        case GELU_TANH: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
        case RELU2: return x > 0 ? x * x : 0;
        default: return x / (1 + std::exp(-1.702 * x));
    }
}

static void check_activations(const Kernels& kernels) {
    const int count = random_from(1, 100), kind = random_below(ACTIVATIONS);
    const bool is_gated = kind == CLAMPED_SWISH || random_below(2);
    auto gate = random_floats(count), up = random_floats(count);
    for (float& value : gate) value *= random_below(2) ? 20 : 1;
    for (float& value : up) value *= random_below(2) ? 10 : 1;
    auto got = gate, expected = gate;
    kernels.activate(kind, got.data(), is_gated ? up.data() : nullptr, count);
    for (int i = 0; i < count; i++) {
        if (kind == CLAMPED_SWISH) expected[i] = float(activated(kind, std::min(gate[i], 7.0f)) * (std::clamp(up[i], -7.0f, 7.0f) + 1));
        else expected[i] = float(activated(kind, gate[i]) * (is_gated ? up[i] : 1));
    }
    place = std::string(kernels.name) + ", activation " + std::to_string(kind);
    require_near(got, expected, "the definition");
}

// Formats that look numbers up: any bits are unpacked within the table, into scales that are odd.
static void check_look_up() {
    const int sizes[LOOK_UPS] = {50, 56, 66, 74, 82, 98, 110, 54, 66}, tables[LOOK_UPS] = {32768, 32768, 2048, 4096, 8192, 1024, 2048, 0, 0};
    for (int kind = 0; kind < LOOK_UPS; kind++) {
        const size_t blocks = random_from(1, 5);
        std::vector<uint8_t> from(blocks * sizes[kind]), to(blocks * kCodedBytes);
        std::vector<uint8_t> table(tables[kind]);
        for (uint8_t& byte : from) byte = uint8_t(random_below(3) ? random_below(256) : 255);
        for (uint8_t& code : table) code = uint8_t(random_below(16));
        require(look_up_fits(kind, blocks, from.size(), table.size()), "sizes");
        require(!look_up_fits(kind, blocks + 1, from.size(), table.size()), "other sizes");
        look_up(kind, from.data(), 0, blocks, table.data(), to.data());
        for (size_t i = 0; i < to.size(); i++) {
            const size_t at = i % kCodedBytes;
            if (at >= 4 && at < 20) require(int8_t(to[i]) > 0 && to[i] % 2, "scales");
        }
    }
}

int main(int count, char** arguments) {
    const int rounds = count > 1 ? std::atoi(arguments[1]) : 40;
    place = "unpacking";
    for (int round = 0; round < rounds; round++) check_look_up();
    for (const Kernels* kernels : {portable_kernels(), avx2_kernels(), avx512_kernels(), neon_kernels()}) {
        if (!kernels) continue;
        for (int round = 0; round < rounds; round++) {
            for (int format = 0; format < kFormats; format++) {
                place = std::string(kernels->name) + ", format " + std::to_string(format);
                if (layout_of(Format(format)).bits) check_product(*kernels, Format(format), true);
                check_product(*kernels, Format(format), false);
                if (layout_of(Format(format)).bits && kernels->multiply_packed) check_packed(*kernels, Format(format));
            }
            place = kernels->name;
            check_quantise(*kernels), check_keep(*kernels), check_attention(*kernels), check_together(*kernels), check_rows(*kernels);
            check_activations(*kernels);
        }
        std::printf("%s: all hold\n", kernels->name);
    }
}
