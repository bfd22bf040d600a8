// Whole models of fuzzed shapes through the native step's own interface: threads, and how a text is cut into
// steps, change no bit; what does not fit is refused. Meant to run under sanitizers. Ends with 0 if all holds.
//
//     g++ -std=c++20 -O2 -pthread -I llmchat/engine/native tests/engine/native/step_check.cpp llmchat/engine/native/*.cpp -o step_check

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "decode.h"
#include "memory.h"

using llmchat::Cache;
using llmchat::Format;

namespace llmchat {
struct Model;
struct Shape {
    int32_t is_gpt, dim, ffn, layers, heads, kv_heads, head_dim, vocab, context, interleaved, threads;
    float eps;
};
}  // namespace llmchat
using llmchat::Model;
using llmchat::Shape;

extern "C" {
const char* llmchat_kernels(const char* wanted);
llmchat::Memory* llmchat_memory_new(size_t bytes);
Model* llmchat_model_new(const Shape* shape, const char* kernels, llmchat::Memory* memory);
void llmchat_model_free(Model* model);
int llmchat_set_matrix(Model* model, int layer, int slot, int parts, const int32_t* formats, const void* const* data,
                       const size_t* sizes, const int32_t* rows, int cols);
int llmchat_set_vector(Model* model, int layer, int slot, const float* data, size_t count);
Cache* llmchat_cache_new(const Model* model, int capacity);
void llmchat_cache_free(Cache* cache);
int llmchat_cache_copy(const Model* model, const Cache* from, Cache* to, int length);
int llmchat_set_embedding(Model* model, int format, const void* data, size_t size);
int llmchat_step(Model* model, const int32_t* token_ids, const int32_t* positions, Cache* const* caches, int count,
                 float* logits, int logits_from);
}

enum Slot { QKV, OUT, GATE, UP, DOWN };
enum Vector { NORM_1, NORM_1_BIAS, QKV_BIAS, Q_NORM, K_NORM, OUT_BIAS, NORM_2, NORM_2_BIAS, UP_BIAS, DOWN_BIAS };
enum Global { NORM, NORM_BIAS, POSITIONS, COSINES, SINES };

static std::mt19937 dice(1);

static int between(int least, int most) { return std::uniform_int_distribution<int>(least, most)(dice); }

static float number() { return std::uniform_real_distribution<float>(-1, 1)(dice); }

static void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "does not hold: %s\n", what);
    std::exit(1);
}

// A matrix in a file's format, with numbers that a model could have.
static std::vector<uint8_t> matrix_bytes(Format format, int rows, int cols) {
    std::vector<uint8_t> bytes(rows * llmchat::file_row_bytes(format, cols));
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
struct Weights {
    struct Matrix {
        int layer, slot, cols;
        std::vector<std::vector<uint8_t>> parts;
        std::vector<int32_t> rows, formats;
    };
    Shape shape{};
    std::vector<Matrix> matrices;
    Format embedding_format{};
    std::vector<uint8_t> embedding;
    std::vector<std::pair<std::pair<int, int>, std::vector<float>>> vectors;

    Weights() {
        Shape& s = shape;
        s.is_gpt = between(0, 1), s.layers = between(1, 2);
        s.kv_heads = between(1, 3), s.heads = s.kv_heads * (s.is_gpt ? 1 : between(1, 5));
        s.head_dim = 2 * between(1, 20);
        s.dim = s.is_gpt || between(0, 1) ? s.heads * s.head_dim : between(1, 40);
        if (!s.is_gpt && between(0, 1)) s.dim = 32 * between(1, 3);
        s.ffn = s.is_gpt ? 4 * s.dim : between(0, 1) ? 32 * between(1, 4) : between(1, 70);
        if (!s.is_gpt && between(0, 2) == 0) s.dim = 256, s.ffn = 512;  // whole superblocks
        s.vocab = between(1, 70), s.context = between(0, 3) ? between(1, 40) : between(120, 300), s.interleaved = between(0, 1), s.eps = 1e-5f;
        const int kv_rows = s.kv_heads * s.head_dim, q_rows = s.heads * s.head_dim;
        for (int i = 0; i < s.layers; i++) {
            add_matrix(i, QKV, {q_rows, kv_rows, kv_rows}, s.dim);
            add_matrix(i, OUT, {s.dim}, q_rows);
            if (!s.is_gpt) add_matrix(i, GATE, {s.ffn}, s.dim);
            add_matrix(i, UP, {s.ffn}, s.dim);
            add_matrix(i, DOWN, {s.dim}, s.ffn);
            add_vector(i, NORM_1, s.dim), add_vector(i, NORM_2, s.dim);
            if (s.is_gpt) {
                add_vector(i, NORM_1_BIAS, s.dim), add_vector(i, NORM_2_BIAS, s.dim);
                add_vector(i, OUT_BIAS, s.dim), add_vector(i, UP_BIAS, s.ffn), add_vector(i, DOWN_BIAS, s.dim);
            } else if (between(0, 1)) {
                add_vector(i, QKV_BIAS, q_rows + 2 * kv_rows);
                add_vector(i, Q_NORM, s.head_dim), add_vector(i, K_NORM, s.head_dim);
            }
        }
        add_matrix(-1, 0, {s.vocab}, s.dim);
        while (s.dim % llmchat::columns_together(embedding_format = Format(between(0, llmchat::kFormats - 1)))) {
        }
        embedding = matrix_bytes(embedding_format, s.vocab, s.dim);
        add_vector(-1, NORM, s.dim);
        if (s.is_gpt) {
            add_vector(-1, NORM_BIAS, s.dim), add_vector(-1, POSITIONS, s.context * s.dim);
        } else {
            add_vector(-1, COSINES, s.context * s.head_dim / 2), add_vector(-1, SINES, s.context * s.head_dim / 2);
        }
    }

    void add_matrix(int layer, int slot, std::vector<int32_t> rows, int cols) {
        Matrix m{layer, slot, cols, {}, rows, {}};
        Format format = Format::F32;
        int filled = 0;
        for (int count : rows) {
            // The format may change where a block of rows ends.
            while (filled % llmchat::kRows == 0 && cols % llmchat::columns_together(format = Format(between(0, llmchat::kFormats - 1)))) {
            }
            m.parts.push_back(matrix_bytes(format, count, cols)), m.formats.push_back(int32_t(format));
            filled += count;
        }
        matrices.push_back(std::move(m));
    }

    void add_vector(int layer, int slot, int count) {
        std::vector<float> values(count);
        for (auto& value : values) value = number();
        vectors.push_back({{layer, slot}, std::move(values)});
    }
};

using Owned = std::unique_ptr<Model, decltype(&llmchat_model_free)>;
using OwnedCache = std::unique_ptr<Cache, decltype(&llmchat_cache_free)>;

static Owned open_model(const Weights& weights, int threads, const char* kernels) {
    Shape shape = weights.shape;
    shape.threads = threads;
    // None, too little for all weights, or enough.
    auto* prepared = between(0, 2) ? llmchat_memory_new(size_t(between(0, 1) ? 1 : 64) << 20) : nullptr;
    Owned model(llmchat_model_new(&shape, kernels, prepared), llmchat_model_free);
    require(model != nullptr, "the model is made");
    for (const auto& m : weights.matrices) {
        std::vector<const void*> data;
        std::vector<size_t> sizes;
        for (const auto& part : m.parts) data.push_back(part.data()), sizes.push_back(part.size());
        const auto set = [&](int layer, const int32_t* rows) {
            return llmchat_set_matrix(model.get(), layer, m.slot, int(data.size()), m.formats.data(), data.data(),
                                      sizes.data(), rows, m.cols);
        };
        require(set(m.layer, m.rows.data()) == 0, "a matrix is taken");
        require(set(shape.layers, m.rows.data()) == 1, "a layer that is not there is refused");
        std::vector<int32_t> other = m.rows;
        other[0]++;
        require(set(m.layer, other.data()) == 1, "another size is refused");
    }
    const auto embed = [&](int format, size_t size) {
        return llmchat_set_embedding(model.get(), format, weights.embedding.data(), size);
    };
    require(embed(int(weights.embedding_format), weights.embedding.size()) == 0, "an embedding is taken");
    require(embed(int(weights.embedding_format), weights.embedding.size() - 1) == 1, "another size is refused");
    require(embed(-1, 0) == 1 && embed(llmchat::kFormats, 0) == 1, "no such format is refused");
    for (const auto& [place, values] : weights.vectors) {
        const auto [layer, slot] = place;
        require(llmchat_set_vector(model.get(), layer, slot, values.data(), values.size()) == 0, "a vector is taken");
        require(llmchat_set_vector(model.get(), layer, 99, values.data(), values.size()) == 1, "no such vector is refused");
    }
    return model;
}

// Logits of every position, the text read in steps of up to `most` positions.
static std::vector<float> read(const Weights& weights, Model* model, const std::vector<int32_t>& text, int most) {
    const Shape& s = weights.shape;
    const int positions = int(text.size()), row = (s.vocab + 15) / 16 * 16;
    OwnedCache cache(llmchat_cache_new(model, positions), llmchat_cache_free);
    std::vector<float> all;
    for (int start = 0; start < positions;) {
        const int count = between(1, std::min(most, positions - start)), wanted = between(0, count);
        std::vector<int32_t> places;
        for (int t = 0; t < count; t++) places.push_back(start + t);
        std::vector<Cache*> caches(count, cache.get());
        std::vector<float> logits(size_t(wanted) * row);
        require(llmchat_step(model, &text[start], places.data(), caches.data(), count, logits.data(), count - wanted) == 0,
                "a step is taken");
        all.resize(size_t(start + count) * s.vocab);
        for (int t = 0; t < count; t++) {
            float* to = &all[size_t(start + t) * s.vocab];
            const int from = t - (count - wanted);
            // What no logits were asked for has none to compare.
            if (from >= 0) std::memcpy(to, &logits[size_t(from) * row], s.vocab * sizeof(float));
            else for (int i = 0; i < s.vocab; i++) to[i] = -1e30f;
        }
        start += count;
    }
    return all;
}

static void check_refusals(const Weights& weights, Model* model) {
    const Shape& s = weights.shape;
    OwnedCache cache(llmchat_cache_new(model, 4), llmchat_cache_free);
    const std::vector<int32_t> tokens(llmchat::kTile + 1);
    std::vector<float> logits((s.vocab + 15) / 16 * 16);
    Cache* caches[] = {cache.get()};
    for (int32_t place : {-1, s.context, llmchat::kStretch, INT32_MAX, INT32_MIN}) {
        require(llmchat_step(model, tokens.data(), &place, caches, 1, logits.data(), 0) == 1, "a position outside is refused");
    }
    const int32_t first = 0;
    for (int32_t token : {-1, s.vocab, INT32_MAX, INT32_MIN}) {
        require(llmchat_step(model, &token, &first, caches, 1, logits.data(), 0) == 1, "a token outside is refused");
    }
    for (int count : {-1, 0, llmchat::kTile + 1}) {
        require(llmchat_step(model, tokens.data(), &first, caches, count, logits.data(), 0) == 1, "a wrong count is refused");
    }
    require(llmchat_cache_new(model, 0) == nullptr && llmchat_cache_new(model, -5) == nullptr, "no cache of nothing");
    require(llmchat_cache_copy(model, cache.get(), cache.get(), llmchat::kStretch + 1) == 1, "more than a cache holds is not copied");
}

static void check_shape(int round) {
    const Weights weights;
    const Shape& s = weights.shape;
    std::vector<int32_t> text(between(1, s.context));
    for (auto& token : text) token = between(0, s.vocab - 1);
    for (const char* kernels : {"avx512", "avx2", "neon", "portable"}) {
        if (!*llmchat_kernels(kernels)) continue;
        const Owned alone = open_model(weights, 1, kernels), team = open_model(weights, 3, kernels);
        check_refusals(weights, team.get());
        dice.seed(round);
        const std::vector<float> expected = read(weights, alone.get(), text, 1);
        for (int most : {1, llmchat::kTile}) {
            const std::vector<float> found = read(weights, team.get(), text, most);
            for (size_t i = 0; i < found.size(); i++) {
                const bool both = found[i] != -1e30f && expected[i] != -1e30f;
                require(!both || !std::memcmp(&found[i], &expected[i], sizeof(float)), "threads and steps change no bit");
            }
        }
    }
}

int main(int count, char** arguments) {
    const int rounds = count > 1 ? std::atoi(arguments[1]) : 60;
    for (int round = 0; round < rounds; round++) check_shape(round);
}
