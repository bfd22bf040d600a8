// The native decode step: whole tokens through a Llama or a GPT, in one call.

#pragma once

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

enum Slot : int32_t { QKV, OUT, GATE, UP, DOWN, LAYER_MATRICES };
enum GlobalSlot : int32_t { NORM, NORM_BIAS, POSITIONS, COSINES, SINES, GLOBALS };
enum VectorSlot : int32_t { NORM_1, NORM_1_BIAS, QKV_BIAS, Q_NORM, K_NORM, OUT_BIAS, NORM_2, NORM_2_BIAS, UP_BIAS, DOWN_BIAS, LAYER_VECTORS };

struct Layer {
    Stack matrices[LAYER_MATRICES];
    std::vector<float> vectors[LAYER_VECTORS];
    std::vector<float> key_factors;  // of each kv head's columns; none: all 1
    const float* vector(VectorSlot slot) const { return vectors[slot].empty() ? nullptr : vectors[slot].data(); }
};

constexpr float kUsualKey = 4;  // about the largest number of a key without a bias

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
    Part embedding{};  // in the caller's memory
    std::vector<Layer> layers;
    Stack head;
    std::vector<float> norm, norm_bias, positions, cosines, sines;
    Arena memory;
    Team team;
    std::vector<Pace> paces;  // of steps without logits, for each number of positions, then of those with

    struct Scratch {  // of one worker
        std::vector<float> normed, scratch;
        std::vector<std::unique_ptr<ActivationMemory>> memory;
        Activations tile[kTile];
    };
    std::vector<Scratch> scratch;
    std::vector<float> x, qkv, parts, attended, hidden, up;
    int stretches = 1;  // of the longest text of a step
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
            one.normed.resize(kTile * widest), one.scratch.resize(head_layout().scratch_size());
            for (Activations& position : one.tile) {
                one.memory.push_back(std::make_unique<ActivationMemory>(widest));
                position = one.memory.back()->view;
            }
        }
    }

    // Bytes of weights that a step reads.
    size_t weight_bytes() const {
        size_t bytes = head.bytes();
        for (const Layer& layer : layers) {
            for (const Stack& stack : layer.matrices) bytes += stack.bytes();
            for (const auto& vector : layer.vectors) bytes += vector.size() * sizeof(float);
        }
        return bytes + (norm.size() + norm_bias.size()) * sizeof(float);
    }

    HeadLayout head_layout() const { return {shape.head_dim, !layers[0].matrices[QKV].is_quantised()}; }

    // Bytes of the keys of a stretch of positions in all layers.
    size_t stretch_bytes() const { return size_t(shape.layers) * shape.kv_heads * head_layout().stretch_bytes(); }

    // Bytes of keys and values of one position.
    size_t position_bytes() const { return 2 * stretch_bytes() / kStretch; }

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

    // A bias of some columns of the keys that dwarfs the others would take their precision in the cache (Qwen2 has
    // such). These columns are kept divided by a power of two, and the queries' are multiplied by it. Rotation mixes pairs.
    void find_key_factors(int layer) {
        const float* bias = layers[layer].vector(QKV_BIAS) + shape.heads * shape.head_dim;
        std::vector<float>& factors = layers[layer].key_factors;
        factors.assign(size_t(shape.kv_heads) * shape.head_dim, 1.0f);
        for (int kv = 0; kv < shape.kv_heads; kv++) {
            for (int i = 0; i < shape.head_dim / 2; i++) {
                const auto [a, b] = pair_of(i);
                const int first = kv * shape.head_dim + a, second = kv * shape.head_dim + b;
                const float size = std::max(std::fabs(bias[first]), std::fabs(bias[second]));
                if (size >= 2 * kUsualKey && std::isfinite(size)) {
                    factors[first] = factors[second] = std::exp2(std::floor(std::log2(size / kUsualKey)));
                }
            }
        }
    }

    // The columns of a head that are rotated together.
    std::pair<int, int> pair_of(int i) const {
        return shape.interleaved ? std::pair{2 * i, 2 * i + 1} : std::pair{i, i + shape.head_dim / 2};
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
        if (!embedding.data || head.parts.empty() || norm.empty() || (shape.is_gpt && (norm_bias.empty() || positions.empty()))) return false;
        memory.give_back_rest();
        return complete = true;
    }

    bool has_place(const Cache& cache, int position) const {
        if (cache.stretch_bytes != stretch_bytes() || position < 0 || position >= cache.capacity()) return false;
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
            const auto [a, b] = pair_of(i);
            const float turned = head[a] * c[i] - head[b] * s[i];
            head[b] = head[a] * s[i] + head[b] * c[i];
            head[a] = turned;
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
        const int kv = is_query ? head / (shape.heads / shape.kv_heads) : (head - shape.heads) % shape.kv_heads;
        if (const float* factors = l.key_factors.empty() ? nullptr : &l.key_factors[kv * size]) {
            for (int i = 0; i < size && is_query; i++) p[i] *= factors[i];
            for (int i = 0; i < size && is_key; i++) p[i] /= factors[i];
        }
        if (is_query) return;
        uint8_t* stretch = (is_key ? cache.keys : cache.values) + stretch_at(cache, layer, kv, position / kStretch);
        kernels->keep(p, head_layout(), position % kStretch, is_key, stretch);
    }

    size_t stretch_at(const Cache& cache, int layer, int kv, int stretch) const {
        return ((size_t(layer) * shape.kv_heads + kv) * cache.stretches + stretch) * head_layout().stretch_bytes();
    }

    // A stretch of positions of some heads that share keys and values, of one of the step's positions.
    void attend(int worker, int layer, int count, const int32_t* positions_, Cache* const* caches) {
        const int size = shape.head_dim, group = shape.heads / shape.kv_heads, passes = (group + kSharers - 1) / kSharers;
        int item, end;
        share(worker, count * shape.kv_heads * passes * stretches, item, end);
        for (; item < end; item++) {
            // What shares a stretch comes one behind the other, so that it is near.
            const int t = item % count, pass = item / count % passes;
            const int stretch = item / count / passes % stretches, kv = item / count / passes / stretches;
            const int from = stretch * kStretch, length = std::min(positions_[t] + 1 - from, kStretch);
            if (length <= 0) continue;
            const int head = kv * group + pass * kSharers, sharers = std::min(group - pass * kSharers, kSharers);
            const float* queries[kSharers];
            float* out[kSharers];
            for (int h = 0; h < sharers; h++) {
                queries[h] = &qkv[size_t(t) * padded_qkv + size_t(head + h) * size];
                out[h] = part_of(t, head + h) + stretch * head_layout().part_size();
            }
            const Cache& cache = *caches[t];
            const size_t start = stretch_at(cache, layer, kv, stretch);
            const size_t next = stretch + 1 < stretches ? start + head_layout().stretch_bytes() : stretch_at(cache, layer, kv + 1, 0);
            kernels->attend(queries, sharers, cache.keys + start, cache.values + start, cache.keys + next, length, head_layout(),
                            1.0f / std::sqrt(float(size)), scratch[worker].scratch.data(), out);
        }
        team.meet();
        share(worker, count * shape.heads, item, end);
        for (; item < end; item++) {
            const int t = item / shape.heads, head = item % shape.heads;
            kernels->join(part_of(t, head), positions_[t] / kStretch + 1, head_layout(), &attended[size_t(item) * size]);
        }
    }

    float* part_of(int t, int head) { return &parts[(size_t(t) * shape.heads + head) * stretches * head_layout().part_size()]; }

    // Room for what `attend` finds in the positions of a step.
    void reserve_parts(const int32_t* positions_, int count) {
        stretches = *std::max_element(positions_, positions_ + count) / kStretch + 1;
        const size_t wanted = size_t(count) * shape.heads * stretches * head_layout().part_size();
        if (parts.size() < wanted) parts.resize(wanted);
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

    // Arguments as the library's, which have been looked at.
    void step(const int32_t* token_ids, const int32_t* places, Cache* const* caches, int count, float* logits, int logits_from) {
        for (int t = 0; t < count; t++) {
            float* row = &x[size_t(t) * padded_dim];
            read_row(embedding.format, embedding.data + token_ids[t] * file_row_bytes(embedding.format, shape.dim), shape.dim, row);
            if (!shape.is_gpt) continue;
            const float* place = &positions[size_t(places[t]) * shape.dim];
            for (int i = 0; i < shape.dim; i++) row[i] += place[i];
        }
        reserve_parts(places, count);
        Pace& pace = paces[(logits_from < count) * kTile + count - 1];
        // Steps are compared by the bytes that they read.
        double work = double(weight_bytes());
        for (int t = 0; t < count; t++) work += double(places[t] + 1) * position_bytes();
        run_at_pace(team, pace, work, [&](int worker) { tile(worker, count, places, caches, logits, logits_from); });
    }
};

}  // namespace llmchat
