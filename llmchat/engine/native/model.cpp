// The native decode step: whole tokens through a Llama or a GPT, in one call.

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "decode.h"
#include "memory.h"
#include "stack.h"
#include "threads.h"

namespace llmchat {

namespace {

enum Slot : int32_t { QKV, OUT, GATE, UP, DOWN, LAYER_MATRICES };
enum GlobalSlot : int32_t { NORM, NORM_BIAS, POSITIONS, COSINES, SINES, GLOBALS };
enum VectorSlot : int32_t { NORM_1, NORM_1_BIAS, QKV_BIAS, Q_NORM, K_NORM, OUT_BIAS, NORM_2, NORM_2_BIAS, UP_BIAS, DOWN_BIAS, LAYER_VECTORS };

struct Layer {
    Stack matrices[LAYER_MATRICES];
    std::vector<float> vectors[LAYER_VECTORS];
    const float* vector(VectorSlot slot) const { return vectors[slot].empty() ? nullptr : vectors[slot].data(); }
};

}  // namespace

constexpr int kMost = 1 << 24;  // of every dimension: no product of two of them overflows

// Dimensions of a model; the Python side fills it in, field by field.
struct Shape {
    int32_t is_gpt, dim, ffn, layers, heads, kv_heads, head_dim, vocab, context, interleaved, threads;
    float eps;

    bool is_sound() const {
        for (int32_t n : {dim, ffn, layers, heads, kv_heads, head_dim, vocab, context}) {
            if (n < 1 || n > kMost) return false;
        }
        const int64_t qkv = (int64_t(heads) + 2 * int64_t(kv_heads)) * head_dim;
        return qkv <= kMost && qkv * layers <= kMost * 64ll && heads % kv_heads == 0 && (is_gpt || head_dim % 2 == 0) &&
               threads >= 1 && threads <= 256;
    }
};

struct Model {
    Shape shape;
    const Kernels* kernels;
    std::vector<Layer> layers;
    Stack head;
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
    bool complete = false;
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
            one.total.resize(kTile * widest / kHalf);
            for (int t = 0; t < kTile; t++) {
                Activations& a = one.tile[t];
                a.low = &one.low[t * widest], a.high = &one.high[t * widest], a.whole = &one.whole[t * widest];
                a.scale = &one.scale[t * widest / kGroup], a.total = &one.total[t * widest / kHalf];
            }
        }
    }

    size_t position_size() const { return size_t(shape.layers) * shape.kv_heads * shape.head_dim; }

    Stack* stack(int layer, int slot) {
        if (layer == -1) return slot == 0 ? &head : nullptr;
        const bool is_there = layer >= 0 && layer < shape.layers && slot >= 0 && slot < LAYER_MATRICES;
        return is_there ? &layers[layer].matrices[slot] : nullptr;
    }

    std::pair<int, int> matrix_size(int layer, int slot) const {  // rows and columns
        const int attended_cols = shape.heads * shape.head_dim;
        if (layer < 0) return {shape.vocab, shape.dim};
        if (slot == QKV) return {qkv_rows, shape.dim};
        if (slot == OUT) return {shape.dim, attended_cols};
        if (slot == DOWN) return {shape.dim, shape.ffn};
        return {shape.ffn, shape.dim};
    }

    std::vector<float>* vector_at(int layer, int slot) {
        std::vector<float>* globals[GLOBALS] = {&norm, &norm_bias, &positions, &cosines, &sines};
        if (layer == -1) return slot >= 0 && slot < GLOBALS ? globals[slot] : nullptr;
        const bool is_there = layer >= 0 && layer < shape.layers && slot >= 0 && slot < LAYER_VECTORS;
        return is_there ? &layers[layer].vectors[slot] : nullptr;
    }

    bool fits(int layer, int slot, size_t count) const {
        if (layer < 0) {
            if (slot == COSINES || slot == SINES) return !shape.is_gpt && count % (shape.head_dim / 2) == 0;
            return count == (slot == POSITIONS ? size_t(shape.context) : 1) * shape.dim;
        }
        switch (slot) {
            case QKV_BIAS: return count == size_t(qkv_rows);
            case Q_NORM: case K_NORM: return count == size_t(shape.head_dim);
            case UP_BIAS: return count == size_t(shape.ffn);
            default: return count == size_t(shape.dim);
        }
    }

    // Whether every matrix and vector that a step reads is there.
    bool is_complete() {
        if (complete) return true;
        for (const Layer& l : layers) {
            for (int slot = 0; slot < LAYER_MATRICES; slot++) {
                if (l.matrices[slot].parts.empty() && !(shape.is_gpt && slot == GATE)) return false;
            }
            if (!l.vector(NORM_1) || !l.vector(NORM_2)) return false;
            if (shape.is_gpt && !(l.vector(NORM_1_BIAS) && l.vector(NORM_2_BIAS))) return false;
        }
        if (head.parts.empty() || norm.empty() || (shape.is_gpt && (norm_bias.empty() || positions.empty()))) return false;
        return complete = true;
    }

    bool has_place(const Cache& cache, int position) const {
        if (cache.position_size != position_size() || position < 0 || position >= cache.capacity) return false;
        if (shape.is_gpt) return position < shape.context;
        return size_t(position + 1) * (shape.head_dim / 2) <= std::min(cosines.size(), sines.size());
    }

    // Makes `count` rows of floats ready for a matrix, on this worker.
    const Activations* prepare(int worker, const Stack& m, const float* rows, size_t stride, int count) {
        Scratch& own = scratch[worker];
        const bool is_quantised = m.is_quantised();
        for (int t = 0; t < count; t++) {
            own.tile[t].values = rows + t * stride;
            if (is_quantised) kernels->quantise(rows + t * stride, m.parts[0].cols, own.tile[t]);
        }
        return own.tile;
    }

    void multiply(int worker, const Stack& m, const Activations* in, int count, float* y, size_t stride, bool add) {
        int from, to;
        share(worker, m.blocks(), from, to);
        for (const Matrix& part : m.parts) {
            const int first = std::max(from, 0), end = std::min(to, part.blocks());
            if (first < end) kernels->multiply(part, in, count, first, end, y, stride, add);
            from -= part.blocks(), to -= part.blocks(), y += size_t(part.blocks()) * kRows;
        }
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
    void add_to_stream(int worker, const Stack& m, const float* bias, const Activations* in, int count) {
        multiply(worker, m, in, count, x.data(), padded_dim, true);
        int from, to;
        share(worker, m.blocks(), from, to);
        add_bias(bias, x.data(), padded_dim, count, from * kRows, std::min(to * kRows, shape.dim));
    }

    void feed_forward(int worker, const Layer& l, int count) {
        const float* normed = normalised(worker, l.vector(NORM_2), l.vector(NORM_2_BIAS), count);
        const Stack& first = shape.is_gpt ? l.matrices[UP] : l.matrices[GATE];
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

enum Result { DONE = 0, REFUSED = 1, NO_MEMORY = 2 };

// The fastest kernels that this machine can run; `wanted` picks others for tests.
static const Kernels* choose(const char* wanted) {
    for (const Kernels* one : {avx512_kernels(), avx2_kernels(), neon_kernels(), portable_kernels()}) {
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
    if (!found || !shape->is_sound()) return nullptr;
    try {
        return new Model(*shape, found);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

void llmchat_model_free(Model* model) { delete model; }

// Repacks a slot's matrices, one below the other; layer -1 is the head. Returns 0, 1 if they do not belong there,
// 2 without memory.
int llmchat_set_matrix(Model* model, int layer, int slot, int parts, const int32_t* formats, const void* const* data,
                       const size_t* sizes, const int32_t* rows, int cols) try {
    Stack* stack = model->stack(layer, slot);
    if (!stack) return REFUSED;
    std::vector<Part> given;
    int64_t all_rows = 0;
    for (int i = 0; i < parts; i++) {
        if (formats[i] < 0 || formats[i] >= kFormats || rows[i] < 1) return REFUSED;
        const Part part = {Format(formats[i]), static_cast<const uint8_t*>(data[i]), rows[i]};
        if (cols % columns_together(part.format) || sizes[i] != rows[i] * file_row_bytes(part.format, cols)) return REFUSED;
        given.push_back(part), all_rows += rows[i];
    }
    const auto [wanted_rows, wanted_cols] = model->matrix_size(layer, slot);
    if (all_rows != wanted_rows || cols != wanted_cols) return REFUSED;
    return stack->fill(given, cols, model->memory, model->team) ? DONE : REFUSED;
} catch (const std::bad_alloc&) {
    return NO_MEMORY;
}

// Takes over a vector; layer -1 are the model's own. Returns 0, or 1 if it does not belong there.
int llmchat_set_vector(Model* model, int layer, int slot, const float* data, size_t count) {
    std::vector<float>* vector = model->vector_at(layer, slot);
    if (!vector || !model->fits(layer, slot, count)) return REFUSED;
    vector->assign(data, data + count);
    return DONE;
}

// Bytes of weights that every token reads, as they are kept; of the embedding it reads one row, which is not among them.
size_t llmchat_weight_bytes(const Model* model) {
    size_t bytes = model->head.bytes();
    for (const Layer& layer : model->layers) {
        for (const Stack& stack : layer.matrices) bytes += stack.bytes();
        for (const auto& vector : layer.vectors) bytes += vector.size() * sizeof(float);
    }
    return bytes + (model->norm.size() + model->norm_bias.size()) * sizeof(float);
}

// Bytes of one position's keys and values in all layers.
size_t llmchat_position_bytes(const Model* model) {
    return 2 * model->position_size() * sizeof(float);
}

Cache* llmchat_cache_new(const Model* model, int capacity) {
    if (capacity < 1 || capacity > kMost) return nullptr;
    auto cache = std::make_unique<Cache>();
    cache->capacity = (capacity + 15) / 16 * 16;
    cache->position_size = model->position_size();
    const size_t count = cache->position_size * cache->capacity;
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

// Takes over the first `length` positions of another cache of the same model. Returns 0, or 1 if they do not fit.
int llmchat_cache_copy(const Model* model, const Cache* from, Cache* to, int length) {
    const Shape& s = model->shape;
    for (const Cache* cache : {from, static_cast<const Cache*>(to)}) {
        if (cache->position_size != model->position_size() || length < 0 || length > cache->capacity) return REFUSED;
    }
    const size_t keys = size_t((length + 15) / 16) * 16 * s.head_dim, values = size_t(length) * s.head_dim;
    for (int i = 0; i < s.layers * s.kv_heads; i++) {
        const size_t a = size_t(i) * from->capacity * s.head_dim, b = size_t(i) * to->capacity * s.head_dim;
        std::memcpy(to->keys + b, from->keys + a, keys * sizeof(float));
        std::memcpy(to->values + b, from->values + a, values * sizeof(float));
    }
    return DONE;
}

// How many workers the next step of one position with logits gets.
int llmchat_workers(const Model* model) { return model->paces[kTile].workers(); }

// Runs `count` positions (at most kTile) and writes the logits of those from `logits_from` on,
// each row with whole blocks of the vocabulary. `embedded` holds their input rows, `dim` floats each.
// Returns 0, or 1 if the model is incomplete or a position lies outside.
int llmchat_step(Model* model, const float* embedded, const int32_t* positions, Cache* const* caches, int count,
                 float* logits, int logits_from) {
    const Shape& s = model->shape;
    if (count < 1 || count > kTile || logits_from < 0 || !model->is_complete()) return REFUSED;
    for (int t = 0; t < count; t++) {
        if (!model->has_place(*caches[t], positions[t])) return REFUSED;
    }
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
    return DONE;
}
}
