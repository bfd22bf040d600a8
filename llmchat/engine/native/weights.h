// What a model consists of: matrices and vectors by their places, and checks that they belong there.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "decode.h"
#include "interface.h"
#include "stack.h"

namespace llmchat {

constexpr int kMost = 1 << 24;  // of every dimension: no product of two of them overflows
constexpr int kMostExperts = 4096;
constexpr float kUsualKey = 4;  // about the largest number of a key without a bias

// Cosines and sines of positions from 0, for the pairs of columns that turn.
struct Rotation {
    int dim = 0;  // columns that turn, from the first on
    bool interleaved = false;
    std::vector<float> cosines, sines;

    int positions() const { return dim ? int(cosines.size() / (dim / 2)) : 0; }

    // The columns of a head that are rotated together.
    std::pair<int, int> pair_of(int i) const { return interleaved ? std::pair{2 * i, 2 * i + 1} : std::pair{i, i + dim / 2}; }

    void turn(float* head, int position) const {
        const int half = dim / 2;
        const float *c = &cosines[size_t(position) * half], *s = &sines[size_t(position) * half];
        for (int i = 0; i < half; i++) {
            const auto [a, b] = pair_of(i);
            const float turned = head[a] * c[i] - head[b] * s[i];
            head[b] = head[a] * s[i] + head[b] * c[i];
            head[a] = turned;
        }
    }
};

// Three matrices of one network of a mixture.
struct Expert {
    Stack gate, up, down;
};

struct Layer {
    LayerShape shape;
    Stack matrices[LAYER_MATRICES];
    std::vector<Expert> experts;
    std::vector<float> vectors[LAYER_VECTORS];
    std::vector<float> key_factors;  // of each kv head's columns; none: all 1
    const float* vector(VectorSlot slot) const { return vectors[slot].empty() ? nullptr : vectors[slot].data(); }
};

inline bool is_sound(const Shape& s) {
    for (int32_t n : {s.dim, s.layers, s.vocab, s.context}) {
        if (n < 1 || n > kMost) return false;
    }
    if (s.input_dim < 0 || s.input_dim * int64_t(s.layers) > kMost || s.input_activation < 0 || s.input_activation >= CLAMPED_SWISH) return false;
    return s.ropes >= 0 && s.ropes <= s.layers && s.threads >= 1 && s.threads <= 256;
}

inline bool has_sound_heads(const Shape& s, const LayerShape* layers, int index) {
    const LayerShape& l = layers[index];
    for (int32_t n : {l.heads, l.kv_heads, l.head_dim}) {
        if (n < 1 || n > kMost) return false;
    }
    const int64_t qkv = (int64_t(l.heads) + 2 * int64_t(l.kv_heads)) * l.head_dim;
    if (qkv > kMost || qkv * s.layers > kMost * 64ll || l.heads % l.kv_heads || l.keys_of < -1 || l.keys_of >= index) return false;
    if (l.keys_of < 0) return true;
    const LayerShape& of = layers[l.keys_of];
    return of.keys_of < 0 && of.kv_heads == l.kv_heads && of.head_dim == l.head_dim && of.window == l.window;
}

inline bool is_sound(const Shape& s, const LayerShape* layers, int index) {
    const LayerShape& l = layers[index];
    if (!has_sound_heads(s, layers, index)) return false;
    if (l.rope < -1 || l.rope >= s.ropes || l.window < 0 || l.gain_length < 1) return false;
    if (l.activation < 0 || l.activation >= ACTIVATIONS || l.ffn < 1 || l.ffn > kMost) return false;
    if (l.experts < 0 || l.experts > kMostExperts || l.shared_ffn < 0 || l.shared_ffn > kMost) return false;
    if (l.activation == CLAMPED_SWISH && !l.gated) return false;
    return l.experts ? l.experts_used >= 1 && l.experts_used <= std::min(l.experts, 64) && !l.parallel : !l.shared_ffn;
}

struct Weights {
    Shape shape;
    std::vector<Layer> layers;
    Part embedding{}, inputs{};  // in the caller's memory
    Stack head, input_projection;
    std::vector<float> globals[GLOBALS];
    std::vector<Rotation> rotations;

    Weights(const Shape& s, const LayerShape* given) : shape(s), layers(s.layers), rotations(s.ropes) {
        for (int i = 0; i < s.layers; i++) {
            layers[i].shape = given[i];
            layers[i].experts.resize(given[i].experts);
        }
    }

    const float* global(GlobalSlot slot) const { return globals[slot].empty() ? nullptr : globals[slot].data(); }

    // Bytes of weights that a token reads.
    size_t bytes() const {
        size_t sum = head.bytes() + input_projection.bytes();
        for (const Layer& layer : layers) {
            for (const Stack& stack : layer.matrices) sum += stack.bytes();
            for (const auto& vector : layer.vectors) sum += vector.size() * sizeof(float);
            size_t of_experts = 0;
            for (const Expert& e : layer.experts) of_experts += e.gate.bytes() + e.up.bytes() + e.down.bytes();
            if (layer.shape.experts) sum += of_experts / layer.shape.experts * layer.shape.experts_used;
        }
        return sum + (globals[NORM].size() + globals[NORM_BIAS].size()) * sizeof(float);
    }

    HeadLayout head_layout(const LayerShape& l) const { return {l.head_dim, !layers[0].matrices[QKV].is_quantised()}; }

    // The heads of a layer's first matrix: queries, and what it has of keys and of values.
    static int heads_of(const LayerShape& l) { return l.heads + (l.keys_of >= 0 ? 0 : l.values_are_keys ? 1 : 2) * l.kv_heads; }
    static int qkv_rows(const LayerShape& l) { return heads_of(l) * l.head_dim; }

    Stack* stack(int layer, int slot, int expert) {
        if (layer == -1) return slot == QKV ? &head : slot == INPUT_GATE && shape.input_dim ? &input_projection : nullptr;
        if (layer < 0 || layer >= shape.layers || slot < 0 || slot >= LAYER_MATRICES) return nullptr;
        Layer& l = layers[layer];
        if (!l.shape.experts || (slot != GATE && slot != UP && slot != DOWN)) return expert == 0 ? &l.matrices[slot] : nullptr;
        if (expert < 0 || expert >= l.shape.experts) return nullptr;
        Expert& e = l.experts[expert];
        return slot == GATE ? &e.gate : slot == UP ? &e.up : &e.down;
    }

    const Stack* stack(int layer, int slot, int expert) const { return const_cast<Weights*>(this)->stack(layer, slot, expert); }

    std::pair<int, int> matrix_size(int layer, int slot) const {  // rows and columns
        if (layer < 0) return {slot == QKV ? shape.vocab : shape.layers * shape.input_dim, shape.dim};
        const LayerShape& l = layers[layer].shape;
        switch (slot) {
            case QKV: return {qkv_rows(l), shape.dim};
            case OUT: return {shape.dim, l.heads * l.head_dim};
            case INPUT_GATE: return {shape.input_dim, shape.dim};
            case INPUT_OUT: return {shape.dim, shape.input_dim};
            case DOWN: return {shape.dim, l.ffn};
            case ROUTER: return {l.experts, shape.dim};
            case SHARED_GATE: case SHARED_UP: return {l.shared_ffn, shape.dim};
            case SHARED_DOWN: return {shape.dim, l.shared_ffn};
            case SHARED_SCORE: return {1, shape.dim};
            default: return {l.ffn, shape.dim};
        }
    }

    std::vector<float>* vector_at(int layer, int slot) {
        if (layer == -1) return slot >= 0 && slot < GLOBALS ? &globals[slot] : nullptr;
        const bool is_there = layer >= 0 && layer < shape.layers && slot >= 0 && slot < LAYER_VECTORS;
        return is_there ? &layers[layer].vectors[slot] : nullptr;
    }

    size_t vector_size(int layer, int slot) const {
        if (layer < 0 && slot == INPUTS_NORM) return shape.input_dim;
        if (layer < 0) return size_t(slot == POSITIONS ? shape.context : 1) * (slot == HEAD_BIAS ? shape.vocab : shape.dim);
        const LayerShape& l = layers[layer].shape;
        const size_t networks = std::max(l.experts, 1), of_head = l.head_dim;
        const size_t normed = shape.qk_norm_of == OF_HEAD ? 1 : slot == K_NORM || slot == K_NORM_BIAS ? l.kv_heads : l.heads;
        switch (slot) {
            case QKV_BIAS: return qkv_rows(l);
            case V_NORM: return of_head;
            case SCALE: return 1;
            case Q_NORM: case Q_NORM_BIAS: case K_NORM: case K_NORM_BIAS: return normed * of_head;
            case GATE_BIAS: case UP_BIAS: return networks * l.ffn;
            case DOWN_BIAS: return networks * shape.dim;
            case ROUTER_BIAS: case EXPERT_SCALES: return l.experts;
            case SINKS: return l.heads;
            default: return shape.dim;
        }
    }

    // Whether so many columns of every head that these positions turn are there.
    bool can_turn(int rope, int dim) const {
        return std::all_of(layers.begin(), layers.end(), [&](const Layer& l) { return l.shape.rope != rope || dim <= l.shape.head_dim; });
    }

    // Whether every matrix and vector that a step reads is there.
    bool are_complete() const {
        for (const Layer& l : layers) {
            const LayerShape& s = l.shape;
            const auto has = [&](MatrixSlot slot) { return !l.matrices[slot].parts.empty(); };
            if (!has(QKV) || !has(OUT)) return false;
            if (!s.experts && (!has(UP) || !has(DOWN) || (s.gated && !has(GATE)))) return false;
            if (s.experts && !has(ROUTER)) return false;
            if (s.shared_ffn && (!has(SHARED_UP) || !has(SHARED_DOWN) || !has(SHARED_GATE))) return false;
            for (const Expert& e : l.experts) {
                if (e.up.parts.empty() || e.down.parts.empty() || (s.gated && e.gate.parts.empty())) return false;
            }
            for (int slot : {ATTENTION_NORM, POST_ATTENTION_NORM, FFN_NORM, POST_FFN_NORM, Q_NORM, K_NORM}) {
                const bool is_own = slot == Q_NORM || slot == K_NORM;
                const int kind = is_own ? shape.qk_norm_kind : shape.norm_kind;
                const bool is_there = !l.vectors[slot].empty(), has_bias = !l.vectors[slot + 1].empty();
                if (slot == K_NORM && s.keys_of >= 0) continue;
                if (is_own && is_there != (kind != NO_NORM)) return false;
                if (is_there && kind == LAYER_NORM && !has_bias) return false;
            }
            if (s.rope >= 0 && !rotations[s.rope].dim) return false;
            if (shape.input_dim && (!has(INPUT_GATE) || !has(INPUT_OUT) || !l.vector(INPUT_NORM))) return false;
            if (l.vector(EXPERTS_NORM) && !is_apart(l)) return false;
            if (s.parallel && (l.vector(POST_ATTENTION_NORM) || l.vector(POST_FFN_NORM))) return false;
        }
        if (shape.input_dim && (!inputs.data || input_projection.parts.empty() || !global(INPUTS_NORM))) return false;
        return embedding.data && !head.parts.empty() && global(NORM) && (shape.norm_kind == RMS_NORM || global(NORM_BIAS));
    }

    // Whether router, experts and shared network have all the norms of their own.
    bool is_apart(const Layer& l) const {
        if (shape.norm_kind != RMS_NORM || !l.shape.experts || !l.vector(FFN_NORM)) return false;
        return l.vector(ROUTER_NORM) && l.vector(POST_EXPERTS_NORM) && (!l.shape.shared_ffn || l.vector(POST_SHARED_NORM));
    }

    // A bias of some columns of the keys that dwarfs the others would take their precision in the cache (Qwen2 has
    // such). These columns are kept divided by a power of two, and the queries' are multiplied by it. Rotation mixes pairs.
    void find_key_factors(Layer& layer) const {
        const LayerShape& s = layer.shape;
        const float* given = layer.vector(QKV_BIAS);
        if (!given || !layer.key_factors.empty() || shape.qk_norm_kind != NO_NORM || s.keys_of >= 0) return;
        const float* bias = given + s.heads * s.head_dim;
        std::vector<float> factors(size_t(s.kv_heads) * s.head_dim, 1.0f);
        const Rotation none, &rotation = s.rope >= 0 ? rotations[s.rope] : none;
        for (int kv = 0; kv < s.kv_heads; kv++) {
            const int start = kv * s.head_dim;
            for (int i = 0; i < rotation.dim / 2; i++) {
                const auto [a, b] = rotation.pair_of(i);
                factors[start + a] = factors[start + b] = factor_of(std::max(std::fabs(bias[start + a]), std::fabs(bias[start + b])));
            }
            for (int i = rotation.dim; i < s.head_dim; i++) factors[start + i] = factor_of(std::fabs(bias[start + i]));
        }
        if (std::any_of(factors.begin(), factors.end(), [](float f) { return f != 1.0f; })) layer.key_factors = std::move(factors);
    }

private:
    static float factor_of(float size) {
        return size >= 2 * kUsualKey && std::isfinite(size) ? std::exp2(std::floor(std::log2(size / kUsualKey))) : 1.0f;
    }
};

}  // namespace llmchat
