// The native decode step: whole tokens through a Llama or a GPT, in one call.

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "decode.h"
#include "memory.h"
#include "threads.h"

namespace llmchat {

size_t repacked_bytes(Format format, int rows, int cols) {
    const size_t blocks = (size_t(rows) + kRows - 1) / kRows;
    switch (format) {
        case Format::Q4: return blocks * (cols / kGroup) * (kRows * kGroup / 2 + 4 * kRows);
        case Format::Q8: return blocks * (cols / kGroup) * (kRows * kGroup + 2 * kRows);
        case Format::F32: return blocks * cols * kRows * 4;
        default: return blocks * cols * kRows * 2;
    }
}

namespace {

enum Source : int32_t { SOURCE_F32, SOURCE_F16, SOURCE_BF16, SOURCE_Q4_0, SOURCE_Q4_1, SOURCE_Q8_0 };

Format kept_format(Source source) {
    switch (source) {
        case SOURCE_F32: return Format::F32;
        case SOURCE_F16: return Format::F16;
        case SOURCE_BF16: return Format::BF16;
        case SOURCE_Q8_0: return Format::Q8;
        default: return Format::Q4;
    }
}

uint16_t negated_eighth_up(uint16_t half) {
    // -8 times a half: three more in the exponent and the sign turned; Q4_0 counts from -8.
    const uint16_t exponent = (half >> 10) & 31;
    if (exponent == 0 || exponent >= 28) return 0xffff;  // not to be had exactly this way
    return uint16_t((half ^ 0x8000) + (3 << 10));
}

// Bytes of a group of 32 columns of one row in the file.
size_t group_bytes(Source source) {
    switch (source) {
        case SOURCE_F32: return 4 * kGroup;
        case SOURCE_Q4_0: return 18;
        case SOURCE_Q4_1: return 20;
        case SOURCE_Q8_0: return 34;
        default: return 2 * kGroup;
    }
}

// Whether a matrix keeps its numbers to the last bit: each scale of Q4_0 must also be had times -8.
bool keeps_scales(Source source, const uint8_t* from, size_t groups) {
    if (source != SOURCE_Q4_0) return true;
    for (size_t g = 0; g < groups; g++) {
        uint16_t scale;
        std::memcpy(&scale, from + g * 18, 2);
        if ((scale & 0x7fff) && negated_eighth_up(scale) == 0xffff) return false;
    }
    return true;
}

// One group of 32 columns of one row into its lane of a block; words are of four columns.
void repack_q4(const uint8_t* from, bool has_least, int lane, uint8_t* to) {
    constexpr uint32_t kLow = 0x0f0f0f0f;
    uint16_t scale, least;
    std::memcpy(&scale, from, 2);
    if (has_least) {
        std::memcpy(&least, from + 2, 2);
    } else {
        least = scale & 0x7fff ? negated_eighth_up(scale) : 0;
    }
    uint32_t q[4];  // low halves: columns 0 to 15, high halves: 16 to 31
    std::memcpy(q, from + (has_least ? 4 : 2), 16);
    const uint32_t words[4] = {(q[0] & kLow) | (q[1] & kLow) << 4, (q[2] & kLow) | (q[3] & kLow) << 4,
                               (q[0] >> 4 & kLow) | (q[1] & ~kLow), (q[2] >> 4 & kLow) | (q[3] & ~kLow)};
    for (int i = 0; i < 4; i++) std::memcpy(to + 64 * i + 4 * lane, &words[i], 4);
    std::memcpy(to + 256 + 2 * lane, &scale, 2);
    std::memcpy(to + 288 + 2 * lane, &least, 2);
}

void repack_q8(const uint8_t* from, int lane, uint8_t* to) {
    for (int i = 0; i < kGroup / 4; i++) {
        uint32_t word;
        std::memcpy(&word, from + 2 + 4 * i, 4);
        word ^= 0x80808080;  // 128 more each
        std::memcpy(to + 64 * i + 4 * lane, &word, 4);
    }
    std::memcpy(to + kRows * kGroup + 2 * lane, from, 2);
}

template <typename Number>
void repack_dense(const uint8_t* from, int cols, int lane, uint8_t* to) {
    for (int k = 0; k < cols; k++) std::memcpy(to + (size_t(k) * kRows + lane) * sizeof(Number), from + k * sizeof(Number), sizeof(Number));
}

// Puts one row, as it lies in the file, into its place among the blocks of a matrix.
void repack_row(Source source, const uint8_t* from, int row, int cols, uint8_t* to) {
    const int lane = row % kRows, groups = cols / kGroup;
    to += repacked_bytes(kept_format(source), row / kRows * kRows, cols);
    if (source == SOURCE_F32) return repack_dense<uint32_t>(from, cols, lane, to);
    if (source <= SOURCE_BF16) return repack_dense<uint16_t>(from, cols, lane, to);
    const size_t step = group_bytes(source), kept = repacked_bytes(kept_format(source), kRows, kGroup);
    for (int g = 0; g < groups; g++, from += step, to += kept) {
        if (source == SOURCE_Q8_0) {
            repack_q8(from, lane, to);
        } else {
            repack_q4(from, source == SOURCE_Q4_1, lane, to);
        }
    }
}

enum Slot : int32_t { QKV, OUT, GATE, UP, DOWN, LAYER_MATRICES };
enum VectorSlot : int32_t { NORM_1, NORM_1_BIAS, QKV_BIAS, Q_NORM, K_NORM, OUT_BIAS, NORM_2, NORM_2_BIAS, UP_BIAS, DOWN_BIAS, LAYER_VECTORS };

struct Layer {
    Matrix matrices[LAYER_MATRICES];
    std::vector<float> vectors[LAYER_VECTORS];
    const float* vector(VectorSlot slot) const { return vectors[slot].empty() ? nullptr : vectors[slot].data(); }
};

}  // namespace

// Dimensions of a model; the Python side fills it in, field by field.
struct Shape {
    int32_t is_gpt, dim, ffn, layers, heads, kv_heads, head_dim, vocab, context, interleaved, threads;
    float eps;
};

struct Model {
    Shape shape;
    const Kernels* kernels;
    std::vector<Layer> layers;
    Matrix head;
    std::vector<float> norm, norm_bias, positions, cosines, sines;
    Arena memory;
    Team team;
    std::vector<Pace> paces;  // of steps without logits, for each number of positions, then of those with

    struct Scratch {  // of one worker
        std::vector<float> normed, scores;
        std::vector<int8_t> low, high;
        std::vector<int16_t> whole;
        std::vector<float> scale;
        std::vector<int32_t> total;
        Activations tile[kTile];
    };
    std::vector<Scratch> scratch;
    std::vector<float> x, qkv, attended, hidden, up;
    int qkv_rows, padded_qkv, padded_ffn, padded_dim, widest;

    Model(const Shape& s, const Kernels* k) : shape(s), kernels(k), layers(s.layers), team(s.threads), paces(2 * kTile, Pace(team.size())) {
        auto padded = [](int n) { return (n + kGroup - 1) / kGroup * kGroup; };
        qkv_rows = (s.heads + 2 * s.kv_heads) * s.head_dim;
        padded_qkv = padded(qkv_rows), padded_ffn = padded(s.ffn), padded_dim = padded(s.dim);
        widest = std::max({padded_dim, padded_ffn, padded(s.heads * s.head_dim)});
        x.resize(kTile * padded_dim), qkv.resize(kTile * padded_qkv);
        attended.resize(kTile * padded(s.heads * s.head_dim));
        hidden.resize(kTile * padded_ffn), up.resize(kTile * padded_ffn);
        scratch.resize(s.threads);
        for (auto& one : scratch) {
            one.normed.resize(kTile * widest), one.low.resize(kTile * widest), one.high.resize(kTile * widest);
            one.whole.resize(kTile * widest), one.scale.resize(kTile * widest / kGroup);
            one.total.resize(kTile * widest / kGroup);
            for (int t = 0; t < kTile; t++) {
                Activations& a = one.tile[t];
                a.low = &one.low[t * widest], a.high = &one.high[t * widest], a.whole = &one.whole[t * widest];
                a.scale = &one.scale[t * widest / kGroup], a.total = &one.total[t * widest / kGroup];
            }
        }
    }

    // Makes `count` rows of floats ready for a matrix, on this worker.
    const Activations* prepare(int worker, const Matrix& m, const float* rows, size_t stride, int count) {
        Scratch& own = scratch[worker];
        for (int t = 0; t < count; t++) {
            own.tile[t].values = rows + t * stride;
            if (m.is_quantised()) kernels->quantise(rows + t * stride, m.cols, own.tile[t]);
        }
        return own.tile;
    }

    void multiply(int worker, const Matrix& m, const Activations* in, int count, float* y, size_t stride, bool add) {
        const int blocks = m.blocks(), size = team.active();
        kernels->multiply(m, in, count, int(int64_t(blocks) * worker / size), int(int64_t(blocks) * (worker + 1) / size),
                          y, stride, add);
    }

    void normalise(const float* from, const float* weight, const float* bias, float* to) {
        if (shape.is_gpt) {
            kernels->layer_norm(from, weight, bias, shape.dim, shape.eps, to);
        } else {
            kernels->rms_norm(from, weight, shape.dim, shape.eps, to);
        }
    }

    const float* normalised(int worker, const float* weight, const float* bias, int count) {
        float* to = scratch[worker].normed.data();
        for (int t = 0; t < count; t++) normalise(&x[t * padded_dim], weight, bias, to + t * widest);
        return to;
    }

    void rotate(float* head, int position) const {
        const int half = shape.head_dim / 2;
        const float *c = &cosines[size_t(position) * half], *s = &sines[size_t(position) * half];
        for (int i = 0; i < half; i++) {
            float& a = head[shape.interleaved ? 2 * i : i];
            float& b = head[shape.interleaved ? 2 * i + 1 : i + half];
            const float turned = a * c[i] - b * s[i];
            b = a * s[i] + b * c[i];
            a = turned;
        }
    }

    // Biases, norms and rotation of one head's query, key or value; keys and values go into the cache.
    void place_head(int layer, int head, int t, int position, Cache& cache) {
        const Layer& l = layers[layer];
        const int size = shape.head_dim;
        float* p = &qkv[size_t(t) * padded_qkv + size_t(head) * size];
        if (const float* bias = l.vector(QKV_BIAS)) {
            for (int i = 0; i < size; i++) p[i] += bias[head * size + i];
        }
        const bool is_key = head >= shape.heads && head < shape.heads + shape.kv_heads, is_query = head < shape.heads;
        if (const float* weight = is_query ? l.vector(Q_NORM) : is_key ? l.vector(K_NORM) : nullptr) {
            kernels->rms_norm(p, weight, size, shape.eps, p);
        }
        if (!shape.is_gpt && (is_query || is_key)) rotate(p, position);
        if (is_query) return;
        const int kv = (head - shape.heads) % shape.kv_heads;
        const size_t start = (size_t(layer) * shape.kv_heads + kv) * cache.capacity * size;
        if (is_key) {
            float* k = cache.keys + start + size_t(position / 16) * 16 * size + position % 16;
            for (int i = 0; i < size; i++) k[size_t(i) * 16] = p[i];
        } else {
            std::memcpy(cache.values + start + size_t(position) * size, p, size * sizeof(float));
        }
    }

    void attend(int worker, int layer, int count, const int32_t* positions_, Cache* const* caches) {
        const int size = shape.head_dim, group = shape.heads / shape.kv_heads, items = count * shape.heads;
        int item = int(int64_t(items) * worker / team.active());
        const int end = int(int64_t(items) * (worker + 1) / team.active());
        auto& scores = scratch[worker].scores;
        while (item < end) {
            const int t = item / shape.heads, head = item % shape.heads, kv = head / group;
            const int sharers = std::min({(kv + 1) * group - head, end - item, kSharers});
            const int length = positions_[t] + 1;
            const Cache& cache = *caches[t];
            const size_t start = (size_t(layer) * shape.kv_heads + kv) * cache.capacity * size;
            const float* queries[kSharers];
            float* out[kSharers];
            for (int h = 0; h < sharers; h++) {
                queries[h] = &qkv[size_t(t) * padded_qkv + size_t(head + h) * size];
                out[h] = &attended[(size_t(t) * shape.heads + head + h) * size];
            }
            const size_t wanted = size_t(kSharers) * (length + 16);
            if (scores.size() < wanted) scores.resize(2 * wanted);
            kernels->attend(queries, sharers, cache.keys + start, cache.values + start, length, size,
                            1.0f / std::sqrt(float(size)), scores.data(), out);
            item += sharers;
        }
    }

    void add_bias(const float* bias, float* rows, size_t stride, int count, int from, int to) {
        if (!bias) return;
        for (int t = 0; t < count; t++) {
            for (int i = from; i < to; i++) rows[t * stride + i] += bias[i];
        }
    }

    void share(int worker, int count, int& from, int& to) const {
        from = int(int64_t(count) * worker / team.active());
        to = int(int64_t(count) * (worker + 1) / team.active());
    }

    // x += matrix * in + bias, each worker for its own rows.
    void add_to_stream(int worker, const Matrix& m, const float* bias, const Activations* in, int count) {
        multiply(worker, m, in, count, x.data(), padded_dim, true);
        int from, to;
        share(worker, m.blocks(), from, to);
        add_bias(bias, x.data(), padded_dim, count, from * kRows, std::min(to * kRows, shape.dim));
    }

    void feed_forward(int worker, const Layer& l, int count) {
        const float* normed = normalised(worker, l.vector(NORM_2), l.vector(NORM_2_BIAS), count);
        const Matrix& first = shape.is_gpt ? l.matrices[UP] : l.matrices[GATE];
        const Activations* in = prepare(worker, first.is_quantised() ? first : l.matrices[UP], normed, widest, count);
        multiply(worker, first, in, count, hidden.data(), padded_ffn, false);
        int from, to;
        share(worker, first.blocks(), from, to);
        from *= kRows, to = std::min(to * kRows, shape.ffn);
        if (shape.is_gpt) {
            add_bias(l.vector(UP_BIAS), hidden.data(), padded_ffn, count, from, to);
            for (int t = 0; t < count; t++) {
                for (float* p = &hidden[t * padded_ffn + from]; p < &hidden[t * padded_ffn] + to; p++) {
                    *p *= 0.5f * (1.0f + std::erf(*p * 0.70710678f));
                }
            }
        } else {
            multiply(worker, l.matrices[UP], in, count, up.data(), padded_ffn, false);
            for (int t = 0; t < count && from < to; t++) {
                kernels->swiglu(&hidden[t * padded_ffn + from], &up[t * padded_ffn + from], to - from);
            }
        }
        team.meet();
        in = prepare(worker, l.matrices[DOWN], hidden.data(), padded_ffn, count);
        add_to_stream(worker, l.matrices[DOWN], l.vector(DOWN_BIAS), in, count);
        team.meet();
    }

    void tile(int worker, int count, const int32_t* positions_, Cache* const* caches, float* logits, int logits_from) {
        const int parts = shape.heads + 2 * shape.kv_heads;
        for (int i = 0; i < shape.layers; i++) {
            const Layer& l = layers[i];
            const float* normed = normalised(worker, l.vector(NORM_1), l.vector(NORM_1_BIAS), count);
            const Activations* in = prepare(worker, l.matrices[QKV], normed, widest, count);
            multiply(worker, l.matrices[QKV], in, count, qkv.data(), padded_qkv, false);
            team.meet();
            int from, to;
            share(worker, parts * count, from, to);
            for (int item = from; item < to; item++) {
                place_head(i, item % parts, item / parts, positions_[item / parts], *caches[item / parts]);
            }
            team.meet();
            attend(worker, i, count, positions_, caches);
            team.meet();
            in = prepare(worker, l.matrices[OUT], attended.data(), size_t(shape.heads) * shape.head_dim, count);
            add_to_stream(worker, l.matrices[OUT], l.vector(OUT_BIAS), in, count);
            team.meet();
            feed_forward(worker, l, count);
        }
        if (logits_from >= count) return;
        const float* normed = normalised(worker, norm.data(), norm_bias.empty() ? nullptr : norm_bias.data(), count);
        const Activations* in = prepare(worker, head, normed, widest, count);
        multiply(worker, head, in + logits_from, count - logits_from, logits, size_t(head.blocks()) * kRows, false);
    }
};

}  // namespace llmchat

using namespace llmchat;

extern "C" {

// The fastest kernels that this machine can run; `wanted` picks others for tests.
static const Kernels* choose(const char* wanted) {
    for (const Kernels* one : {avx512_kernels(), avx2_kernels(), portable_kernels()}) {
        if (one && (!wanted || !*wanted || !std::strcmp(wanted, one->name))) return one;
    }
    return nullptr;
}

const char* llmchat_kernels(const char* wanted) {
    const Kernels* found = choose(wanted);
    return found ? found->name : "";
}

Model* llmchat_model_new(const Shape* shape, const char* kernels) {
    const Kernels* found = choose(kernels);
    if (!found || shape->threads < 1 || shape->threads > 256) return nullptr;
    try {
        return new Model(*shape, found);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

void llmchat_model_free(Model* model) { delete model; }

// Repacks one matrix: parts of it one below the other. Returns 0, or 1 if it cannot be kept exactly, 2 without memory.
int llmchat_set_matrix(Model* model, int layer, int slot, int source_, int parts, const void* const* data,
                       const int* rows, int cols) try {
    const Source source = Source(source_);
    const size_t row_bytes = source <= SOURCE_BF16 ? size_t(cols) * group_bytes(source) / kGroup
                                                   : size_t(cols / kGroup) * group_bytes(source);
    std::vector<const uint8_t*> from;  // of each row
    for (int i = 0; i < parts; i++) {
        const uint8_t* part = static_cast<const uint8_t*>(data[i]);
        if (!keeps_scales(source, part, size_t(rows[i]) * (cols / kGroup))) return 1;
        for (int row = 0; row < rows[i]; row++) from.push_back(part + row * row_bytes);
    }
    Matrix m;
    m.format = kept_format(source), m.rows = int(from.size()), m.cols = cols;
    uint8_t* to = model->memory.take(repacked_bytes(m.format, m.rows, cols));
    m.data = to;
    model->team.run(model->team.size(), [&](int worker) {
        int first, end;  // blocks
        model->share(worker, m.blocks(), first, end);
        for (int row = first * kRows; row < std::min(end * kRows, m.rows); row++) repack_row(source, from[row], row, cols, to);
    });
    (layer < 0 ? model->head : model->layers[layer].matrices[slot]) = m;
    return 0;
} catch (const std::bad_alloc&) {
    return 2;
}

void llmchat_set_vector(Model* model, int layer, int slot, const float* data, size_t count) {
    if (layer >= 0) {
        model->layers[layer].vectors[slot].assign(data, data + count);
        return;
    }
    std::vector<float>* globals[] = {&model->norm, &model->norm_bias, &model->positions, &model->cosines, &model->sines};
    globals[slot]->assign(data, data + count);
}

// Bytes of weights that every token reads, as they are kept; of the embedding it reads one row, which is not among them.
size_t llmchat_weight_bytes(const Model* model) {
    size_t bytes = repacked_bytes(model->head.format, model->head.rows, model->head.cols);
    for (const Layer& layer : model->layers) {
        for (const Matrix& m : layer.matrices) {
            if (m.data) bytes += repacked_bytes(m.format, m.rows, m.cols);
        }
        for (const auto& vector : layer.vectors) bytes += vector.size() * sizeof(float);
    }
    return bytes + (model->norm.size() + model->norm_bias.size()) * sizeof(float);
}

// Bytes of one position's keys and values in all layers.
size_t llmchat_position_bytes(const Model* model) {
    const Shape& s = model->shape;
    return size_t(2) * s.layers * s.kv_heads * s.head_dim * sizeof(float);
}

Cache* llmchat_cache_new(const Model* model, int capacity) {
    const Shape& s = model->shape;
    auto cache = std::make_unique<Cache>();
    cache->capacity = (capacity + 15) / 16 * 16;
    const size_t count = size_t(s.layers) * s.kv_heads * cache->capacity * s.head_dim;
    cache->bytes = 2 * count * sizeof(float);
    void* memory = mmap(nullptr, cache->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
#if defined(MADV_HUGEPAGE)
    madvise(memory, cache->bytes, MADV_HUGEPAGE);
#endif
    cache->memory = cache->keys = static_cast<float*>(memory);
    cache->values = cache->keys + count;
    return cache.release();
}

void llmchat_cache_free(Cache* cache) {
    if (!cache) return;
    munmap(cache->memory, cache->bytes);
    delete cache;
}

// Takes over the first `length` positions of another cache of the same model.
void llmchat_cache_copy(const Model* model, const Cache* from, Cache* to, int length) {
    const Shape& s = model->shape;
    const size_t keys = size_t((length + 15) / 16) * 16 * s.head_dim, values = size_t(length) * s.head_dim;
    for (int i = 0; i < s.layers * s.kv_heads; i++) {
        const size_t a = size_t(i) * from->capacity * s.head_dim, b = size_t(i) * to->capacity * s.head_dim;
        std::memcpy(to->keys + b, from->keys + a, keys * sizeof(float));
        std::memcpy(to->values + b, from->values + a, values * sizeof(float));
    }
}

// How many workers the next step of one position with logits gets.
int llmchat_workers(const Model* model) { return model->paces[kTile].workers(); }

// Runs `count` positions (at most kTile) and writes the logits of those from `logits_from` on,
// each row with whole blocks of the vocabulary. `embedded` holds their input rows, `dim` floats each.
void llmchat_step(Model* model, const float* embedded, const int32_t* positions, Cache* const* caches, int count,
                  float* logits, int logits_from) {
    const Shape& s = model->shape;
    for (int t = 0; t < count; t++) {
        float* x = &model->x[size_t(t) * model->padded_dim];
        std::memcpy(x, embedded + size_t(t) * s.dim, s.dim * sizeof(float));
        if (s.is_gpt) {
            const float* place = &model->positions[size_t(positions[t]) * s.dim];
            for (int i = 0; i < s.dim; i++) x[i] += place[i];
        }
    }
    Pace& pace = model->paces[(logits_from < count) * kTile + count - 1];
    run_at_pace(model->team, pace, [&](int worker) { model->tile(worker, count, positions, caches, logits, logits_from); });
}
}
