// Whole models of fuzzed shapes through the native step's own interface: threads, and how a text is cut into
// steps, change no bit; what does not fit is refused. Meant to run under sanitizers. Ends with 0 if all holds.
//
//     g++ -std=c++20 -O2 -pthread -I llmchat/engine/native tests/engine/native/step_check.cpp llmchat/engine/native/*.cpp -o step_check

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "decode.h"
#include "interface.h"

using namespace llmchat;

static std::mt19937 dice(1);

static int between(int least, int most) { return std::uniform_int_distribution<int>(least, most)(dice); }

static bool one_in(int count) { return between(1, count) == 1; }

static float number() { return std::uniform_real_distribution<float>(-1, 1)(dice); }

static void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "does not hold: %s\n", what);
    std::exit(1);
}

// A matrix in a file's format, with numbers that a model could have.
static std::vector<uint8_t> matrix_bytes(Format format, int rows, int cols) {
    std::vector<uint8_t> bytes(rows * file_row_bytes(format, cols));
    if (format == Format::F32) {
        for (size_t i = 0; i < bytes.size(); i += 4) {
            const float value = number() / 4;
            std::memcpy(&bytes[i], &value, 4);
        }
        return bytes;
    }
    // Every 16-bit float in them is small, wherever a block has it.
    for (auto& byte : bytes) byte = uint8_t(between(0, 0x1f));
    for (size_t i = 1; format == Format::BF16 && i < bytes.size(); i += 2) bytes[i] = 0x3c;
    return bytes;
}

// A shape, and every number of a model of that shape.
struct Numbers {
    struct Matrix {
        int layer, slot, expert, cols;
        std::vector<std::vector<uint8_t>> parts;
        std::vector<int32_t> rows, formats;
    };
    struct Pair {  // of an adapter
        int layer, slot, expert, first_row, rows, rank;
        Format down_format, up_format;
        std::vector<uint8_t> down, up;
    };
    struct Turns {
        int dim, interleaved;
        std::vector<float> cosines, sines;
    };
    Shape shape{};
    std::vector<LayerShape> layers;
    std::vector<Matrix> matrices;
    std::vector<Pair> pairs;
    std::vector<Turns> ropes;
    Format embedding_format{}, inputs_format{};
    std::vector<uint8_t> embedding, inputs;
    std::vector<std::pair<std::pair<int, int>, std::vector<float>>> vectors;
    bool has_positions = one_in(3), sandwiched = one_in(3);

    Numbers() {
        Shape& s = shape;
        s.layers = between(1, 3);
        for (int i = 0; i < s.layers; i++) choose_heads(i);
        s.dim = one_in(2) ? 32 * between(1, 3) : one_in(2) ? layers[0].heads * layers[0].head_dim : between(1, 40);
        if (one_in(4)) s.dim = 256;  // whole superblocks
        s.vocab = between(1, 70), s.context = between(0, 3) ? between(1, 40) : between(120, 300), s.eps = 1e-5f;
        s.norm_kind = one_in(2) ? RMS_NORM : LAYER_NORM;
        s.qk_norm_kind = one_in(2) ? NO_NORM : one_in(2) ? RMS_NORM : LAYER_NORM;
        s.qk_norm_of = between(0, s.qk_norm_kind == LAYER_NORM ? OF_EACH : OF_ALL);
        s.ropes = between(0, s.layers), s.input_dim = one_in(3) ? between(1, 40) : 0, s.input_activation = between(0, RELU2);
        s.embedding_scale = one_in(2) ? 1 : 2.5f, s.logit_scale = one_in(2) ? 1 : 0.5f, s.final_softcap = one_in(2) ? 0 : 3;
        for (int i = 0; i < s.ropes; i++) {
            int dim = 40;
            for (const LayerShape& l : layers) dim = std::min(dim, l.head_dim);
            dim = 2 * between(1, dim / 2);
            ropes.push_back({dim, between(0, 1), values(s.context * dim / 2), values(s.context * dim / 2)});
        }
        for (int i = 0; i < s.layers; i++) add_layer(i);
        add_matrix(-1, 0, 0, {s.vocab}, s.dim);
        embedding_format = format_for(s.dim);
        embedding = matrix_bytes(embedding_format, s.vocab, s.dim);
        add_norm(-1, NORM, s.dim, s.norm_kind);
        if (s.input_dim) {
            inputs_format = format_for(s.layers * s.input_dim);
            inputs = matrix_bytes(inputs_format, s.vocab, s.layers * s.input_dim);
            add_matrix(-1, INPUT_GATE, 0, {s.layers * s.input_dim}, s.dim);
            add_vector(-1, INPUTS_NORM, s.input_dim);
        }
        if (has_positions) add_vector(-1, POSITIONS, s.context * s.dim);
        if (one_in(3)) add_vector(-1, HEAD_BIAS, s.vocab);
    }

    bool is_bounded() const { return has_positions || !ropes.empty(); }

    // A layer's heads, and whose keys they read: another's that has its own, of the same heads and window.
    void choose_heads(int i) {
        LayerShape l{};
        if (i && one_in(2)) {
            const int other = between(0, i - 1);
            l = layers[other];
            if (l.keys_of < 0) l.keys_of = other;
            l.heads = l.kv_heads * between(1, 5);
        } else {
            l.kv_heads = between(1, 3), l.heads = l.kv_heads * between(1, 5), l.head_dim = 2 * between(1, 20), l.keys_of = -1;
            l.window = one_in(2) ? 0 : between(1, 150);
        }
        l.values_are_keys = l.keys_of < 0 && one_in(4);
        layers.push_back(l);
    }

    void add_layer(int i) {
        const Shape& s = shape;
        LayerShape& l = layers[i];
        l.rope = between(-1, s.ropes - 1), l.qk_norm_last = between(0, 1);
        l.gain_length = between(1, 50), l.gain_beta = one_in(3) ? 0.3f : 0;
        l.scale = 0.3f, l.softcap = one_in(3) ? 4 : 0, l.clip = one_in(3) ? 0.5f : 0, l.residual_scale = one_in(3) ? 0.7f : 1;
        l.activation = between(0, ACTIVATIONS - 1), l.gated = l.activation == CLAMPED_SWISH || between(0, 1);
        l.ffn = one_in(2) ? 32 * between(1, 4) : one_in(4) ? 512 : between(1, 70);
        const bool is_mixture = one_in(3);
        l.parallel = !is_mixture && !sandwiched && one_in(3);
        if (is_mixture) {
            l.experts = between(1, 6), l.experts_used = between(1, l.experts), l.renormalise = between(0, 1);
            l.shared_ffn = l.gated && one_in(2) ? between(1, 70) : 0;
        }
        const int kv_rows = l.kv_heads * l.head_dim, q_rows = l.heads * l.head_dim, networks = std::max(l.experts, 1);
        std::vector<int32_t> rows = {q_rows};
        for (int part = l.keys_of >= 0 ? 2 : l.values_are_keys; part < 2; part++) rows.push_back(kv_rows);
        add_matrix(i, QKV, 0, rows, s.dim);
        add_matrix(i, OUT, 0, {s.dim}, q_rows);
        const Format wide = format_for(s.dim), high = format_for(l.ffn);
        for (int expert = 0; expert < networks; expert++) {
            if (l.gated) add_matrix(i, GATE, expert, {l.ffn}, s.dim, &wide);
            add_matrix(i, UP, expert, {l.ffn}, s.dim, &wide);
            add_matrix(i, DOWN, expert, {s.dim}, l.ffn, &high);
        }
        if (l.experts) add_matrix(i, ROUTER, 0, {l.experts}, s.dim);
        if (l.shared_ffn) {
            add_matrix(i, SHARED_GATE, 0, {l.shared_ffn}, s.dim), add_matrix(i, SHARED_UP, 0, {l.shared_ffn}, s.dim);
            add_matrix(i, SHARED_DOWN, 0, {s.dim}, l.shared_ffn);
            if (one_in(2)) add_matrix(i, SHARED_SCORE, 0, {1}, s.dim);
        }
        if (s.input_dim) {
            add_matrix(i, INPUT_GATE, 0, {s.input_dim}, s.dim), add_matrix(i, INPUT_OUT, 0, {s.dim}, s.input_dim);
            add_norm(i, INPUT_NORM, s.dim, s.norm_kind);
        }
        if (one_in(3)) add_vector(i, SCALE, 1);
        if (l.keys_of < 0 && one_in(3)) add_vector(i, V_NORM, l.head_dim);
        const bool is_before = between(0, 3);
        if (is_before) add_norm(i, ATTENTION_NORM, s.dim, s.norm_kind);
        if (is_before && !(l.parallel && one_in(2))) add_norm(i, FFN_NORM, s.dim, s.norm_kind);
        if (is_before && l.experts && s.norm_kind == RMS_NORM && one_in(2)) {
            for (int slot : {ROUTER_NORM, EXPERTS_NORM, POST_EXPERTS_NORM, POST_SHARED_NORM}) add_vector(i, slot, s.dim);
            add_vector(i, EXPERT_SCALES, l.experts);
        }
        if (sandwiched) add_norm(i, POST_ATTENTION_NORM, s.dim, s.norm_kind), add_norm(i, POST_FFN_NORM, s.dim, s.norm_kind);
        if (s.qk_norm_kind) {
            const bool is_shared = s.qk_norm_of == OF_HEAD;
            add_norm(i, Q_NORM, l.head_dim * (is_shared ? 1 : l.heads), s.qk_norm_kind);
            if (l.keys_of < 0) add_norm(i, K_NORM, l.head_dim * (is_shared ? 1 : l.kv_heads), s.qk_norm_kind);
        }
        if (one_in(2)) add_vector(i, QKV_BIAS, q_rows + int(rows.size() - 1) * kv_rows);
        if (one_in(2)) add_vector(i, OUT_BIAS, s.dim);
        if (one_in(3)) add_vector(i, SINKS, l.heads);
        if (l.experts && one_in(2)) add_vector(i, ROUTER_BIAS, l.experts);
        if (one_in(2)) {
            if (l.gated) add_vector(i, GATE_BIAS, networks * l.ffn);
            add_vector(i, UP_BIAS, networks * l.ffn), add_vector(i, DOWN_BIAS, networks * s.dim);
        }
    }

    static Format format_for(int cols) {
        for (;;) {
            const auto format = Format(between(0, kFormats - 1));
            if (cols % columns_together(format) == 0) return format;
        }
    }

    void add_matrix(int layer, int slot, int expert, std::vector<int32_t> rows, int cols, const Format* given = nullptr) {
        Matrix m{layer, slot, expert, cols, {}, rows, {}};
        Format format = Format::F32;
        int filled = 0;
        for (int count : rows) {
            // The format may change where a block of rows ends.
            if (filled % kRows == 0) format = given ? *given : format_for(cols);
            m.parts.push_back(matrix_bytes(format, count, cols)), m.formats.push_back(int32_t(format));
            filled += count;
        }
        matrices.push_back(std::move(m));
        for (int i = between(0, 3); i > 1; i--) add_pair(layer, slot, expert, filled, cols);
    }

    // A pair for the rows from a whole block on, to the end or to another whole block.
    void add_pair(int layer, int slot, int expert, int rows, int cols) {
        const int first = between(0, (rows - 1) / kRows), end = between(first + 1, (rows + kRows - 1) / kRows);
        Pair p{layer, slot, expert, first * kRows, std::min(end * kRows, rows) - first * kRows, between(1, 40), float_format(), float_format(), {}, {}};
        p.down = matrix_bytes(p.down_format, p.rank, cols), p.up = matrix_bytes(p.up_format, p.rows, p.rank);
        pairs.push_back(std::move(p));
    }

    static Format float_format() {
        const Format floats[] = {Format::F32, Format::F16, Format::BF16};
        return floats[between(0, 2)];
    }

    static std::vector<float> values(int count) {
        std::vector<float> all(count);
        for (auto& value : all) value = number();
        return all;
    }

    void add_vector(int layer, int slot, int count) { vectors.push_back({{layer, slot}, values(count)}); }

    void add_norm(int layer, int slot, int count, int kind) {
        add_vector(layer, slot, count);
        if (kind == LAYER_NORM) add_vector(layer, slot + 1, count);
    }
};

using Owned = std::unique_ptr<Model, decltype(&llmchat_model_free)>;
using OwnedCache = std::unique_ptr<Cache, decltype(&llmchat_cache_free)>;

// Shapes that no model can have.
static void check_hostile_shapes(const Numbers& numbers) {
    const auto refused = [&](auto change) {
        Shape shape = numbers.shape;
        std::vector<LayerShape> layers = numbers.layers;
        shape.threads = 1;
        change(shape, layers[0]);
        require(!llmchat_model_new(&shape, layers.data(), "", nullptr), "a shape that cannot be is refused");
    };
    for (int wrong : {-1, 0, INT32_MAX, INT32_MIN}) {
        refused([&](Shape& s, LayerShape&) { s.dim = wrong; });
        refused([&](Shape&, LayerShape& l) { l.heads = wrong; });
        refused([&](Shape&, LayerShape& l) { l.kv_heads = wrong; });
        refused([&](Shape&, LayerShape& l) { l.head_dim = wrong; });
        refused([&](Shape& s, LayerShape&) { s.input_dim = wrong ? wrong : -2; });
        refused([&](Shape&, LayerShape& l) { l.keys_of = wrong < 0 ? wrong - (wrong == -1) : wrong; });
        refused([&](Shape& s, LayerShape&) { s.threads = wrong; });
        refused([&](Shape&, LayerShape& l) { l.ffn = wrong; });
        refused([&](Shape& s, LayerShape& l) { l.rope = wrong < 1 ? std::min(wrong, -2) : s.ropes; });
        refused([&](Shape&, LayerShape& l) { l.activation = wrong < 1 ? -1 : ACTIVATIONS; });
        refused([&](Shape&, LayerShape& l) { l.experts = 4, l.experts_used = wrong, l.parallel = 0; });
        refused([&](Shape&, LayerShape& l) { l.experts = wrong < 1 ? -1 : wrong, l.experts_used = 1; });
    }
    refused([](Shape&, LayerShape& l) { l.window = -1; });
    refused([](Shape& s, LayerShape&) { s.input_activation = CLAMPED_SWISH; });
    for (size_t i = 1; i < numbers.layers.size(); i++) {
        if (numbers.layers[i].keys_of < 0) continue;
        refused([&](Shape&, LayerShape& l) { (&l)[numbers.layers[i].keys_of].window += 1; });
        refused([&](Shape&, LayerShape& l) { (&l)[i].head_dim += 2; });
        refused([&](Shape&, LayerShape& l) { (&l)[i].keys_of = int(i); });
    }
    refused([](Shape&, LayerShape& l) { l.activation = CLAMPED_SWISH, l.gated = 0; });
    refused([](Shape&, LayerShape& l) { l.experts = 4, l.experts_used = 5; });
    refused([](Shape& s, LayerShape&) { s.ropes = s.layers + 1; });
}

static void add_pairs(const Numbers& numbers, Model* model) {
    for (const auto& p : numbers.pairs) {
        const auto add = [&](int layer, int first_row, int rows, int rank, int format, size_t less) {
            return llmchat_add_low_rank(model, layer, p.slot, p.expert, first_row, rows, rank, format, p.down.data(), p.down.size(),
                                        int(p.up_format), p.up.data(), p.up.size() - less, 0.5f);
        };
        const int format = int(p.down_format);
        require(add(numbers.shape.layers, p.first_row, p.rows, p.rank, format, 0) == REFUSED, "a layer that is not there is refused");
        require(add(p.layer, p.first_row + 1, p.rows, p.rank, format, 0) == REFUSED, "half a block is refused");
        require(add(p.layer, p.first_row + (1 << 20), p.rows, p.rank, format, 0) == REFUSED, "rows that are not there are refused");
        require(add(p.layer, -kRows, p.rows, p.rank, format, 0) == REFUSED, "rows before the first are refused");
        require(add(p.layer, p.first_row, p.rows, p.rank + 1, format, 0) == REFUSED, "another rank is refused");
        require(add(p.layer, p.first_row, p.rows, 0, format, 0) == REFUSED, "no rank is refused");
        require(add(p.layer, p.first_row, p.rows, p.rank, int(Format::Q8_0), 0) == REFUSED, "a quantised pair is refused");
        require(add(p.layer, p.first_row, p.rows, p.rank, -1, 0) == REFUSED, "no such format is refused");
        require(add(p.layer, p.first_row, p.rows, p.rank, format, 1) == REFUSED, "another size is refused");
        require(add(p.layer, p.first_row, p.rows, p.rank, format, 0) == DONE, "a pair is taken");
    }
}

static Owned open_model(const Numbers& numbers, int threads, const char* kernels, bool is_adapted = true) {
    Shape shape = numbers.shape;
    shape.threads = threads;
    // None, too little for all weights, or enough.
    auto* prepared = between(0, 2) ? llmchat_memory_new(size_t(between(0, 1) ? 1 : 64) << 20) : nullptr;
    Owned model(llmchat_model_new(&shape, numbers.layers.data(), kernels, prepared), llmchat_model_free);
    require(model != nullptr, "the model is made");
    for (const auto& m : numbers.matrices) {
        std::vector<const void*> data;
        std::vector<size_t> sizes;
        for (const auto& part : m.parts) data.push_back(part.data()), sizes.push_back(part.size());
        const auto set = [&](int layer, int expert, const int32_t* rows) {
            return llmchat_set_matrix(model.get(), layer, m.slot, expert, int(data.size()), m.formats.data(), data.data(), sizes.data(), rows, m.cols);
        };
        require(set(m.layer, m.expert, m.rows.data()) == DONE, "a matrix is taken");
        require(set(shape.layers, m.expert, m.rows.data()) == REFUSED, "a layer that is not there is refused");
        require(m.layer < 0 || set(m.layer, 100, m.rows.data()) == REFUSED, "an expert that is not there is refused");
        std::vector<int32_t> other = m.rows;
        other[0]++;
        require(set(m.layer, m.expert, other.data()) == REFUSED, "another size is refused");
    }
    if (is_adapted) add_pairs(numbers, model.get());
    const auto embed = [&](int format, size_t size) { return llmchat_set_embedding(model.get(), format, numbers.embedding.data(), size); };
    require(embed(int(numbers.embedding_format), numbers.embedding.size()) == DONE, "an embedding is taken");
    require(embed(int(numbers.embedding_format), numbers.embedding.size() - 1) == REFUSED, "another size is refused");
    require(embed(-1, 0) == REFUSED && embed(kFormats, 0) == REFUSED, "no such format is refused");
    const auto lend = [&](int format, size_t size) { return llmchat_set_inputs(model.get(), format, numbers.inputs.data(), size); };
    require(lend(int(numbers.inputs_format), numbers.inputs.size()) == (shape.input_dim ? DONE : REFUSED), "inputs are taken");
    require(lend(int(numbers.inputs_format), numbers.inputs.size() + 1) == REFUSED && lend(kFormats, 0) == REFUSED, "no others are");
    for (const auto& [place, values] : numbers.vectors) {
        const auto [layer, slot] = place;
        require(llmchat_set_vector(model.get(), layer, slot, values.data(), values.size()) == DONE, "a vector is taken");
        require(llmchat_set_vector(model.get(), layer, slot, values.data(), values.size() - 1) == REFUSED, "another size is refused");
        require(llmchat_set_vector(model.get(), layer, 99, values.data(), values.size()) == REFUSED, "no such vector is refused");
    }
    for (int i = 0; i < shape.ropes; i++) {
        const auto& [dim, interleaved, cosines, sines] = numbers.ropes[i];
        const auto set = [&, &c = cosines, &s = sines](int rope, int turned) {
            return llmchat_set_rope(model.get(), rope, c.data(), s.data(), shape.context, turned, numbers.ropes[i].interleaved);
        };
        require(set(i, dim) == DONE, "positions are taken");
        require(set(shape.ropes, dim) == REFUSED && set(-1, dim) == REFUSED, "no such positions are refused");
        require(set(i, 0) == REFUSED && set(i, 3) == REFUSED, "no such width is refused");
        for (const LayerShape& l : numbers.layers) require(l.rope != i || set(i, l.head_dim + 2) == REFUSED, "nor one beyond a head's");
    }
    return model;
}

// A copy of a cache, one made from its image, or the cache itself.
static OwnedCache moved(const Model* model, OwnedCache cache, int length) {
    if (!one_in(2)) return cache;
    OwnedCache copied(llmchat_cache_new(model), llmchat_cache_free);
    if (one_in(2)) {
        require(llmchat_cache_copy(cache.get(), copied.get(), length) == DONE, "a cache is copied");
        return copied;
    }
    std::vector<uint8_t> image(llmchat_cache_image_bytes(cache.get(), length));
    require(llmchat_cache_write_image(cache.get(), length, image.data(), image.size() + 1) == REFUSED, "an image has one size");
    require(llmchat_cache_write_image(cache.get(), length, image.data(), image.size()) == DONE, "an image is written");
    require(llmchat_cache_read_image(copied.get(), length, image.data(), image.size() + 1) == REFUSED, "another size is refused");
    require(llmchat_cache_read_image(copied.get(), length, image.data(), image.size()) == DONE, "an image is read");
    if (length) require(llmchat_cache_read_image(copied.get(), length, image.data(), image.size()) == REFUSED, "once");
    return copied;
}

// Logits of every position, the text read in steps of up to `most` positions, of which some are taken back and read again.
static std::vector<float> read(const Numbers& numbers, Model* model, const std::vector<int32_t>& text, int most) {
    const Shape& s = numbers.shape;
    const int positions = int(text.size()), row = (s.vocab + 15) / 16 * 16;
    OwnedCache cache(llmchat_cache_new(model), llmchat_cache_free);
    std::vector<float> all;
    for (int start = 0, returns = 4; start < positions;) {
        const int count = between(1, std::min(most, positions - start)), wanted = between(0, count);
        std::vector<int32_t> places;
        for (int t = 0; t < count; t++) places.push_back(start + t);
        require(llmchat_cache_reserve(cache.get(), start, start + count) == DONE, "there is room");
        std::vector<Cache*> caches(count, cache.get());
        std::vector<float> logits(size_t(wanted) * row);
        require(llmchat_step(model, &text[start], places.data(), caches.data(), count, logits.data(), count - wanted) == 0,
                "a step is taken");
        all.resize(std::max(all.size(), size_t(start + count) * s.vocab));
        for (int t = 0; t < count; t++) {
            float* to = &all[size_t(start + t) * s.vocab];
            const int from = t - (count - wanted);
            // What no logits were asked for has none to compare.
            if (from >= 0) std::memcpy(to, &logits[size_t(from) * row], s.vocab * sizeof(float));
            else for (int i = 0; i < s.vocab; i++) to[i] = -1e30f;
        }
        start += count;
        if (one_in(20)) llmchat_cache_mark(cache.get(), start);
        cache = moved(model, std::move(cache), start);
        if (one_in(20) && returns-- > 0) {
            const int wished = between(0, start), left = llmchat_cache_rewind(cache.get(), wished);
            require(left >= 0 && left <= wished, "it goes back as far as was asked, or further");
            start = left;
        }
    }
    return all;
}

static void check_refusals(const Numbers& numbers, Model* model) {
    const Shape& s = numbers.shape;
    OwnedCache cache(llmchat_cache_new(model), llmchat_cache_free), other(llmchat_cache_new(model), llmchat_cache_free);
    require(llmchat_cache_reserve(cache.get(), 0, 4) == DONE, "there is room");
    const std::vector<int32_t> tokens(kWide + 1);
    std::vector<float> logits((s.vocab + 15) / 16 * 16);
    Cache* caches[] = {cache.get()};
    for (int32_t place : {-1, numbers.is_bounded() ? s.context : kStretch, kStretch, INT32_MAX, INT32_MIN}) {
        require(llmchat_step(model, tokens.data(), &place, caches, 1, logits.data(), 0) == 1, "a position outside is refused");
    }
    const int32_t first = 0;
    for (int32_t token : {-1, s.vocab, INT32_MAX, INT32_MIN}) {
        require(llmchat_step(model, &token, &first, caches, 1, logits.data(), 0) == 1, "a token outside is refused");
    }
    for (int count : {-1, 0, kWide + 1}) {
        require(llmchat_step(model, tokens.data(), &first, caches, count, logits.data(), 0) == 1, "a wrong count is refused");
    }
    for (int end : {-1, INT32_MIN, INT32_MAX}) {
        require(llmchat_cache_reserve(cache.get(), 0, end) == REFUSED, "room for no text is refused");
        require(llmchat_cache_copy(cache.get(), other.get(), end) == REFUSED, "a text that cannot be is not copied");
    }
    require(llmchat_cache_reserve(cache.get(), -1, 4) == REFUSED && llmchat_cache_reserve(cache.get(), 5, 4) == REFUSED, "nor room before it");
    require(llmchat_cache_copy(cache.get(), other.get(), 2 * kStretch) == REFUSED, "more than a cache holds is not copied");
    require(llmchat_cache_write_image(cache.get(), 2 * kStretch, logits.data(), llmchat_cache_image_bytes(cache.get(), 2 * kStretch)) == REFUSED,
            "nor is its image written");
    require(llmchat_cache_copy(cache.get(), cache.get(), 1) == REFUSED, "a cache is not copied to itself");
    require(llmchat_cache_bytes(other.get()) == 0, "a cache takes nothing before it is used");
}

static void check_shape(int round) {
    const Numbers numbers;
    check_hostile_shapes(numbers);
    const Shape& s = numbers.shape;
    std::vector<int32_t> text(between(1, s.context));
    for (auto& token : text) token = between(0, s.vocab - 1);
    for (const char* kernels : {"avx512", "avx2", "neon", "portable"}) {
        if (!*llmchat_kernels(kernels)) continue;
        const Owned alone = open_model(numbers, 1, kernels), team = open_model(numbers, 3, kernels);
        const Owned bare = open_model(numbers, 2, kernels, false);
        check_refusals(numbers, team.get());
        dice.seed(round);
        const std::vector<float> expected = read(numbers, alone.get(), text, 1);
        for (int most : {1, kTile, kWide}) {
            const std::vector<float> found = read(numbers, team.get(), text, most);
            for (size_t i = 0; i < found.size(); i++) {
                const bool both = found[i] != -1e30f && expected[i] != -1e30f;
                require(!both || !std::memcmp(&found[i], &expected[i], sizeof(float)), "threads and steps change no bit");
            }
        }
        llmchat_set_lora_scale(team.get(), 0);
        dice.seed(round);
        const std::vector<float> plain = read(numbers, bare.get(), text, kTile);
        dice.seed(round);
        const std::vector<float> unscaled = read(numbers, team.get(), text, kTile);
        require(!std::memcmp(plain.data(), unscaled.data(), plain.size() * sizeof(float)), "a scale of 0 is the model alone");
    }
}

int main(int count, char** arguments) {
    const int rounds = count > 1 ? std::atoi(arguments[1]) : 60;
    for (int round = 0; round < rounds; round++) check_shape(round);
}
