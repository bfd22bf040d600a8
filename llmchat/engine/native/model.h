// The native decode step: whole tokens through a network, in one call.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "cache.h"
#include "decode.h"
#include "inputs.h"
#include "interface.h"
#include "mapped.h"
#include "memory.h"
#include "mixture.h"
#include "stack.h"
#include "threads.h"
#include "weights.h"

namespace llmchat {

constexpr int kFew = 24;  // so many positions of a wide step go tile by tile: to unpack weights for them takes longer
constexpr int kFewQueries = 8;  // from so many on it pays to make the keys and values that they share floats

struct alignas(64) Line {
    float numbers[16];
};

struct Model : Weights {
    const Kernels* kernels;
    Arena memory;
    std::unique_ptr<Mapped> mapped;  // weights that were repacked before
    Team team;
    std::vector<uint8_t> tables[LOOK_UPS];  // of the formats that are used
    std::vector<Pace> paces;  // of steps without logits, for each number of positions up to kTile and for more, then of those with

    struct Scratch {  // of one worker
        std::vector<float> normed, thin, input_row;
        std::vector<Line> scratch, parts, found, spread;  // of attention
        std::vector<std::unique_ptr<ActivationMemory>> memory;
        Activations tile[kTile];
        std::vector<Activations> of_group;
        Routing routing;
    };
    // What a step of more than kTile positions is prepared in, by all workers together.
    struct Wide {
        std::vector<float> normed;
        std::vector<std::unique_ptr<ActivationMemory>> memory;
        std::vector<Activations> rows;
        std::unique_ptr<PackedMemory> packed;
    };
    Wide wide;
    std::vector<Scratch> scratch;
    std::vector<float> x, qkv, parts, attended, hidden, up, delta;
    std::vector<float> scores, sums, shared_sums;  // of a mixture
    std::vector<float> layer_inputs;  // of all layers, by position
    const int32_t* input_ids = nullptr;  // of the present step
    std::vector<Held> held;  // what a cache holds of each layer
    int stretches = 1;  // of the longest text of a step
    bool complete = false;
    size_t bytes_read = 0;  // of the weights, by a token, once they are complete
    float lora_scale = 1;
    int padded_qkv, padded_ffn, padded_dim, padded_shared, padded_experts, padded_heads, padded_inputs, widest, used = 1, room = 0;
    int most_heads = 0, most_part = 0, most_of_group = 0;  // of all layers: heads, floats of a stretch's part, and of its group's

    static int padded(int n) { return (n + kGroup - 1) / kGroup * kGroup; }

    Model(const Shape& s, const LayerShape* given, const Kernels* k)
        : Weights(s, given), kernels(k), team(s.threads), paces(2 * (kTile + 1), Pace(team.size())) {
        for (int logits : {0, 1}) paces[logits * (kTile + 1) + kTile] = Pace(team.size(), true);
        int ffn = std::max(s.input_dim, 1), shared = 0, experts = 0, qkv = 0, heads = 0, head_scratch = 0;
        for (const Layer& l : layers) {
            ffn = std::max(ffn, l.shape.ffn), shared = std::max(shared, l.shape.shared_ffn);
            experts = std::max(experts, l.shape.experts), used = std::max(used, l.shape.experts_used);
            qkv = std::max(qkv, qkv_rows(l.shape)), heads = std::max(heads, l.shape.heads * l.shape.head_dim);
            const HeadLayout layout = head_layout(l.shape);
            head_scratch = std::max(head_scratch, layout.scratch_size()), most_heads = std::max(most_heads, l.shape.heads);
            most_part = std::max(most_part, layout.part_size());
            most_of_group = std::max(most_of_group, layout.part_size() * (l.shape.heads / l.shape.kv_heads));
        }
        padded_qkv = padded(qkv), padded_ffn = padded(ffn), padded_dim = padded(s.dim), padded_shared = padded(shared);
        padded_experts = padded(experts), padded_heads = padded(heads), padded_inputs = padded(s.layers * s.input_dim);
        widest = std::max({padded_dim, padded_ffn, padded_shared, padded_heads});
        make_room(kTile);
        scratch.resize(s.threads);
        for (auto& one : scratch) {
            one.normed.resize(kTile * widest), make_lines(one.scratch, head_scratch), one.input_row.resize(padded_inputs);
            for (Activations& position : one.tile) {
                one.memory.push_back(std::make_unique<ActivationMemory>(widest));
                position = one.memory.back()->view;
            }
        }
    }

    // Room for steps of this many positions.
    void make_room(int positions) {
        if (positions <= room) return;
        const size_t rows = positions, slots = rows * used;
        x.resize(rows * padded_dim), qkv.resize(rows * padded_qkv), attended.resize(rows * padded_heads);
        layer_inputs.resize(rows * padded_inputs);
        hidden.resize(slots * padded_ffn), up.resize(slots * padded_ffn), delta.resize(slots * padded_dim);
        if (padded_experts) {
            scores.resize(rows * (padded_experts + 2 * padded_shared + kGroup));
            sums.resize(rows * padded_dim), shared_sums.resize(rows * padded_dim);
        }
        if (positions > kTile) {
            wide.normed.resize(rows * widest);
            while (wide.memory.size() < rows) {
                wide.memory.push_back(std::make_unique<ActivationMemory>(widest));
                wide.rows.push_back(wide.memory.back()->view);
            }
            if (kernels->multiply_packed) wide.packed = std::make_unique<PackedMemory>(positions, widest);
        }
        room = positions;
    }

    // Bytes of a page of a layer's keys and values.
    size_t page_bytes(const LayerShape& l) const { return l.keys_of < 0 ? 2 * size_t(l.kv_heads) * head_layout(l).stretch_bytes() : 0; }

    // Bytes of keys and values of one position in all layers.
    size_t position_bytes() const {
        size_t sum = 0;
        for (const Layer& l : layers) sum += page_bytes(l.shape);
        return sum / kStretch;
    }

    // What a cache holds of each layer, once the weights are there.
    std::vector<Held> what_is_held() const {
        std::vector<Held> found;
        for (const Layer& l : layers) found.push_back({l.shape.window, page_bytes(l.shape)});
        return found;
    }

    bool is_complete() {
        if (complete) return true;
        if (!are_complete()) return false;
        for (Layer& layer : layers) find_key_factors(layer);
        held = what_is_held();
        memory.give_back_rest();
        bytes_read = bytes();
        return complete = true;
    }

    bool has_place(const Cache& cache, int position) const {
        if (position < 0 || position >= kMost || !cache.is_of(held) || !cache.serves(position)) return false;
        if (global(POSITIONS) && position >= shape.context) return false;
        return std::all_of(rotations.begin(), rotations.end(), [&](const Rotation& r) { return position < r.positions(); });
    }

    // Some positions on their way into a matrix; packed as well where there are many and the kernels want them so.
    struct Inputs {
        const Activations* rows;
        const PackedTile* tiles;
        int count;
    };

    // The tiles of a wide step that a worker prepares, as positions.
    void own_positions(int worker, int count, int& from, int& to) const {
        share(worker, (count + kTile - 1) / kTile, from, to);
        from *= kTile, to = std::min(to * kTile, count);
    }

    // Makes rows of floats ready for a matrix: few of them each worker for itself, many all workers together.
    Inputs prepare(int worker, const Stack& m, const float* rows, size_t stride, int count) {
        const bool is_wide = count > kTile;
        int from = 0, to = count;
        if (is_wide) team.meet(), own_positions(worker, count, from, to);
        Activations* ready = is_wide ? wide.rows.data() : scratch[worker].tile;
        const bool is_quantised = m.is_quantised(), is_packed = count > kFew && is_quantised && wide.packed;
        for (int t = from; t < to; t++) {
            ready[t].values = rows + t * stride;
            if (is_quantised) kernels->quantise(rows + t * stride, m.parts[0].cols, ready[t]);
        }
        for (int t = from; t < to && is_packed; t += kTile) {
            pack(ready + t, std::min(to - t, kTile), m.parts[0].cols, wide.packed->tiles[t / kTile]);
        }
        if (is_wide) team.meet();
        return {ready, is_packed ? wide.packed->tiles.data() : nullptr, count};
    }

    void multiply(int worker, const Stack& m, const Inputs& in, float* y, size_t stride, bool add) {
        int from, to;
        share(worker, m.blocks(), from, to);
        int start = 0;
        for (const Matrix& part : m.parts) {
            const int first = std::max(from - start, 0), end = std::min(to - start, part.blocks());
            float* rows = y + size_t(start) * kRows;
            if (first < end && in.tiles && part.is_quantised()) {
                kernels->multiply_packed(part, in.rows, in.tiles, in.count, first, end, rows, stride, add);
            } else if (first < end) {
                kernels->multiply(part, in.rows, in.count, first, end, rows, stride, add);
            }
            start += part.blocks();
        }
        if (m.added.empty() || lora_scale == 0) return;
        for (const LowRank& a : m.added) {
            const int first = std::max(from - a.first_block, 0), end = std::min(to - a.first_block, a.up.blocks());
            if (first < end) add_low_rank(worker, a, in, first, end, y + size_t(a.first_block) * kRows, stride);
        }
    }

    // y += scale * factor * up * (down * in) for some blocks. Each worker makes the few numbers between for itself.
    void add_low_rank(int worker, const LowRank& a, const Inputs& in, int first, int end, float* y, size_t stride) {
        float* thin = scratch[worker].thin.data();
        const size_t thin_stride = size_t(a.down.blocks()) * kRows;
        kernels->multiply(a.down, in.rows, in.count, 0, a.down.blocks(), thin, thin_stride, false);
        Activations between[kWide];
        for (int t = 0; t < in.count; t++) {
            float* row = thin + t * thin_stride;
            for (int i = 0; i < a.down.rows; i++) row[i] *= lora_scale * a.factor;
            between[t].values = row;
        }
        kernels->multiply(a.up, between, in.count, first, end, y, stride, true);
    }

    // Room for the numbers between the matrices of a pair.
    void reserve_rank(int rank) {
        const size_t wanted = size_t(kWide) * ((rank + kRows - 1) / kRows * kRows);
        for (Scratch& one : scratch) one.thin.resize(std::max(one.thin.size(), wanted));
    }

    void normalise(int kind, const float* from, const float* weight, const float* bias, int dim, float* to) {
        if (kind == LAYER_NORM) kernels->layer_norm(from, weight, bias, dim, shape.eps, to);
        else kernels->rms_norm(from, weight, dim, shape.eps, to);
    }

    // Rows of the stream through a norm, or as they are where it is not there. Of many, those that the worker prepares.
    const float* normalised(int worker, const float* weight, const float* bias, const float* rows, int count) {
        const bool is_wide = count > kTile;
        int from = 0, end = count;
        if (is_wide) team.meet(), own_positions(worker, count, from, end);
        float* to = is_wide ? wide.normed.data() : scratch[worker].normed.data();
        for (int t = from; t < end; t++) {
            if (weight) normalise(shape.norm_kind, rows + t * padded_dim, weight, bias, shape.dim, to + t * widest);
            else std::memcpy(to + t * widest, rows + t * padded_dim, shape.dim * sizeof(float));
        }
        return to;
    }

    const float* normalised(int worker, const Layer& l, VectorSlot norm, const float* rows, int count) {
        return normalised(worker, l.vector(norm), l.vector(VectorSlot(norm + 1)), rows, count);
    }

    void normalise_head(const Layer& l, int head, float factor, float* p) {
        const LayerShape& s = l.shape;
        const bool is_query = head < s.heads;
        const float* weight = l.vector(is_query ? Q_NORM : K_NORM);
        if (!weight) return;
        const float* bias = l.vector(is_query ? Q_NORM_BIAS : K_NORM_BIAS);
        const int size = s.head_dim, own = is_query ? head : head - s.heads;
        if (shape.qk_norm_of != OF_HEAD) weight += own * size, bias = bias ? bias + own * size : nullptr;
        if (shape.qk_norm_of != OF_ALL) return normalise(shape.qk_norm_kind, p, weight, bias, size, p);
        for (int i = 0; i < size; i++) p[i] *= factor * weight[i];
    }

    // What norms over all heads multiply one position's queries and keys by.
    void find_norm_factors(const Layer& l, int t, float (&factors)[2]) const {
        const float* weight = l.vector(Q_NORM);
        factors[0] = factors[1] = 1;
        if (!weight || shape.qk_norm_of != OF_ALL) return;
        const int size = l.shape.head_dim;
        const int counts[2] = {l.shape.heads * size, l.shape.kv_heads * size};
        const float *p = &qkv[size_t(t) * padded_qkv], *bias = l.vector(QKV_BIAS);
        for (int part = 0; part < (l.shape.keys_of < 0 ? 2 : 1); part++) {
            double squares = 0;
            for (int i = 0; i < counts[part]; i++) {
                const float value = bias ? p[i] + bias[i] : p[i];
                squares += double(value) * value;
            }
            factors[part] = 1.0f / std::sqrt(float(squares / counts[part]) + shape.eps);
            p += counts[part], bias = bias ? bias + counts[part] : nullptr;
        }
    }

    // Biases, norms and rotation of one head's query, key or value; keys and values go into the cache.
    void place_head(int worker, int layer, int head, int t, int position, const float (&factors)[2], Cache& cache) {
        const Layer& l = layers[layer];
        const LayerShape& s = l.shape;
        const int size = s.head_dim;
        float* p = &qkv[size_t(t) * padded_qkv + size_t(head) * size];
        if (const float* bias = l.vector(QKV_BIAS)) {
            for (int i = 0; i < size; i++) p[i] += bias[head * size + i];
        }
        if (s.clip > 0) {
            for (int i = 0; i < size; i++) p[i] = std::min(std::max(p[i], -s.clip), s.clip);
        }
        const bool is_key = head >= s.heads && head < s.heads + s.kv_heads, is_query = head < s.heads;
        const int kv = is_query ? head / (s.heads / s.kv_heads) : (head - s.heads) % s.kv_heads;
        if (is_key && s.values_are_keys) keep_value(worker, layer, p, kv, position, cache);
        if (!is_query && !is_key) return keep_value(worker, layer, p, kv, position, cache);
        if (!s.qk_norm_last) normalise_head(l, head, factors[is_key], p);
        if (s.rope >= 0) rotations[s.rope].turn(p, position);
        if (s.qk_norm_last) normalise_head(l, head, factors[is_key], p);
        if (is_query && s.gain_beta != 0) {
            const float gain = 1 + s.gain_beta * std::log1p(float(position / s.gain_length));
            for (int i = 0; i < size; i++) p[i] *= gain;
        }
        const Layer& keyed = layers[keys_of(layer)];
        if (const float* factors_of_keys = keyed.key_factors.empty() ? nullptr : &keyed.key_factors[kv * size]) {
            for (int i = 0; i < size && is_query; i++) p[i] *= factors_of_keys[i];
            for (int i = 0; i < size && is_key; i++) p[i] /= factors_of_keys[i];
        }
        if (is_key) keep(layer, p, kv, position, true, cache);
    }

    void keep_value(int worker, int layer, const float* p, int kv, int position, Cache& cache) {
        const Layer& l = layers[layer];
        if (const float* weight = l.vector(V_NORM)) {
            float* to = scratch[worker].scratch.data()->numbers;
            kernels->rms_norm(p, weight, l.shape.head_dim, shape.eps, to), p = to;
        }
        keep(layer, p, kv, position, false, cache);
    }

    void keep(int layer, const float* p, int kv, int position, bool is_key, Cache& cache) {
        const HeadLayout layout = head_layout(layers[layer].shape);
        kernels->keep(p, layout, position % kStretch, is_key, head_in_page(layout, cache.page(layer, position / kStretch), kv, is_key));
    }

    // The layer whose keys and values a layer reads.
    int keys_of(int layer) const { return layers[layer].shape.keys_of < 0 ? layer : layers[layer].shape.keys_of; }

    // Where one head's keys or values lie in a page: one head behind the other, keys before values.
    static uint8_t* head_in_page(const HeadLayout& layout, uint8_t* page, int kv, bool is_key) {
        return page + (2 * kv + !is_key) * layout.stretch_bytes();
    }

    // A stretch of positions of some heads that share keys and values, of one of the step's positions.
    void attend(int worker, int layer, int count, const int32_t* positions, Cache* const* caches) {
        const LayerShape& s = layers[layer].shape;
        const int size = s.head_dim, group = s.heads / s.kv_heads, passes = (group + kSharers - 1) / kSharers;
        const int first = first_seen(s.window, *std::min_element(positions, positions + count)) / kStretch, seen = stretches - first;
        int item, end;
        share(worker, count * s.kv_heads * passes * seen, item, end);
        for (; item < end; item++) {
            // What shares keys comes one behind the other, so that it is near, then what lies in the same page.
            const int t = item % count, pass = item / count % passes;
            const int kv = item / count / passes % s.kv_heads, stretch = first + item / count / passes / s.kv_heads;
            const int from = stretch * kStretch, length = std::min(positions[t] + 1 - from, kStretch);
            const int skipped = std::max(first_seen(s.window, positions[t]) - from, 0);
            if (length <= skipped) continue;
            const int head = kv * group + pass * kSharers, sharers = std::min(group - pass * kSharers, kSharers);
            const float* queries[kSharers];
            float* out[kSharers];
            for (int h = 0; h < sharers; h++) {
                queries[h] = &qkv[size_t(t) * padded_qkv + size_t(head + h) * size];
                out[h] = part_of(t, head + h) + stretch * head_layout(s).part_size();
            }
            uint8_t *page = caches[t]->page(keys_of(layer), stretch), *following = caches[t]->page(keys_of(layer), stretch + 1);
            const bool is_last = kv + 1 == s.kv_heads;
            const uint8_t* next = head_in_page(head_layout(s), is_last && following ? following : page, is_last ? 0 : kv + 1, true);
            kernels->attend(queries, sharers, head_in_page(head_layout(s), page, kv, true), head_in_page(head_layout(s), page, kv, false), next, skipped, length,
                            head_layout(s), s.scale, s.softcap, scratch[worker].scratch.data()->numbers, out);
        }
        team.meet();
        float* found = scratch[worker].scratch.data()->numbers;
        share(worker, count * s.heads, item, end);
        for (; item < end; item++) {
            const int t = item / s.heads, head = item % s.heads;
            begin_head(layer, head, found);
            for (int stretch = first_seen(s.window, positions[t]) / kStretch; stretch <= positions[t] / kStretch; stretch++) {
                kernels->fold(part_of(t, head) + stretch * head_layout(s).part_size(), head_layout(s), found);
            }
            finish_head(layer, found, t, head);
        }
    }

    // A head that has seen nothing yet but a sink, which is one more score, of nothing.
    void begin_head(int layer, int head, float* found) const {
        const float* sinks = layers[layer].vector(SINKS);
        const int columns = head_layout(layers[layer].shape).columns();
        std::fill(found, found + columns, 0.0f);
        found[columns] = sinks ? sinks[head] : -INFINITY, found[columns + 1] = sinks ? 1 : 0;
    }

    void finish_head(int layer, const float* found, int t, int head) {
        const LayerShape& s = layers[layer].shape;
        float* to = &attended[(size_t(t) * s.heads + head) * s.head_dim];
        for (int d = 0; d < s.head_dim; d++) to[d] = found[d] / found[head_layout(s).columns() + 1];
    }

    // The same for many positions: each worker has whole heads of some of them.
    void attend_widely(int worker, int layer, int count, const int32_t* positions, Cache* const* caches) {
        int item, end;
        share(worker, layers[layer].shape.kv_heads * count, item, end);
        while (item < end) {
            const int from = item % count, most = std::min(count, from + end - item);
            int to = from + 1;
            while (to < most && caches[to] == caches[from]) to++;
            attend_text(worker, layer, item / count, from, to, positions, *caches[from]);
            item += to - from;
        }
    }

    // The heads that share keys, in some positions of one text, which read each stretch together.
    void attend_text(int worker, int layer, int kv, int from, int to, const int32_t* positions, const Cache& cache) {
        const LayerShape& s = layers[layer].shape;
        const int window = s.window, group = s.heads / s.kv_heads;
        const size_t part_size = head_layout(s).part_size();
        float* found = scratch[worker].found.data()->numbers;
        const auto found_of = [&](int t, int h) { return found + (size_t(t - from) * group + h) * part_size; };
        for (int t = from; t < to; t++) {
            for (int h = 0; h < group; h++) begin_head(layer, kv * group + h, found_of(t, h));
        }
        const int first = first_seen(window, *std::min_element(positions + from, positions + to)) / kStretch;
        const int last = *std::max_element(positions + from, positions + to) / kStretch;
        for (int stretch = first; stretch <= last; stretch++) {
            Sharers given;
            Shared shared = open_stretch(worker, layer, kv, cache.page(keys_of(layer), stretch), (to - from) * group >= kFewQueries);
            float* folded[kTogether];
            const auto flush = [&] {
                attend_shared(worker, layer, shared, given);
                for (int q = 0; q < given.count; q++) kernels->fold(given.out[q], head_layout(s), folded[q]);
                given.count = 0;
            };
            for (int pass = 0; pass < group; pass += kSharers) {
                given.heads = std::min(group - pass, kSharers);
                for (int t = from; t < to; t++) {
                    const int start = stretch * kStretch, length = std::min(positions[t] + 1 - start, kStretch);
                    const int skipped = std::max(first_seen(window, positions[t]) - start, 0);
                    if (length <= skipped) continue;
                    if (given.count + given.heads > kTogether) flush();
                    for (int h = pass; h < pass + given.heads; h++) {
                        const int q = given.count++;
                        given.queries[q] = &qkv[size_t(t) * padded_qkv + size_t(kv * group + h) * s.head_dim];
                        given.out[q] = scratch[worker].parts.data()->numbers + q * part_size;
                        given.skipped[q] = skipped, given.lengths[q] = length, folded[q] = found_of(t, h);
                    }
                }
                flush();
            }
        }
        for (int t = from; t < to; t++) {
            for (int h = 0; h < group; h++) finish_head(layer, found_of(t, h), t, kv * group + h);
        }
    }

    // A stretch of one head's keys and values, as it is kept or in floats.
    struct Shared {
        const uint8_t *keys, *values;
        bool is_spread;
    };

    Shared open_stretch(int worker, int layer, int kv, uint8_t* page, bool for_many) {
        const HeadLayout layout = head_layout(layers[layer].shape);
        const uint8_t *keys = head_in_page(layout, page, kv, true), *values = head_in_page(layout, page, kv, false);
        if (!for_many || layout.in_floats) return {keys, values, for_many};
        uint8_t* to = reinterpret_cast<uint8_t*>(scratch[worker].spread.data());
        kernels->spread(keys, layout, to), kernels->spread(values, layout, to + layout.spread().stretch_bytes());
        return {to, to + layout.spread().stretch_bytes(), true};
    }

    void attend_shared(int worker, int layer, const Shared& shared, const Sharers& given) {
        const LayerShape& s = layers[layer].shape;
        float* own = scratch[worker].scratch.data()->numbers;
        if (shared.is_spread) return kernels->attend_together(given, shared.keys, shared.values, head_layout(s).spread(), s.scale, s.softcap, own);
        for (int q = 0; q < given.count; q += given.heads) {
            kernels->attend(given.queries + q, given.heads, shared.keys, shared.values, shared.keys, given.skipped[q], given.lengths[q],
                            head_layout(s), s.scale, s.softcap, own, given.out + q);
        }
    }

    float* part_of(int t, int head) { return &parts[(size_t(t) * most_heads + head) * stretches * most_part]; }

    static void make_lines(std::vector<Line>& lines, size_t floats) {
        if (lines.size() * 16 < floats) lines.resize((floats + 15) / 16);
    }

    // Floats of a stretch of one head's keys and values, of the widest heads, where they are not floats as they are kept.
    size_t most_spread() const {
        size_t most = 0;
        for (const Layer& l : layers) {
            const HeadLayout layout = head_layout(l.shape);
            if (!layout.in_floats) most = std::max(most, 2 * layout.spread().stretch_bytes() / sizeof(float));
        }
        return most;
    }

    // Room for what attention finds in the positions of a step.
    void reserve_parts(const int32_t* positions, int count) {
        stretches = *std::max_element(positions, positions + count) / kStretch + 1;
        const size_t wanted = size_t(count) * most_heads * stretches * most_part;
        if (count <= kTile) return parts.resize(std::max(parts.size(), wanted));
        for (Scratch& own : scratch) {
            make_lines(own.parts, kTogether * most_part), make_lines(own.found, size_t(count) * most_of_group);
            make_lines(own.spread, most_spread());
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

    // The worker's own rows of a matrix, as numbers.
    void own_rows(int worker, const Stack& m, int rows, int& from, int& to) const {
        share(worker, m.blocks(), from, to);
        from *= kRows, to = std::min(to * kRows, rows);
    }

    // x += scale * norm(matrix * in + bias), each worker for its own rows.
    void add_to_stream(int worker, const Layer& l, const Stack& m, const float* bias, VectorSlot norm, const Inputs& in) {
        int from, to;
        own_rows(worker, m, shape.dim, from, to);
        if (!l.vector(norm) && l.shape.residual_scale == 1.0f) {
            multiply(worker, m, in, x.data(), padded_dim, true);
            return add_bias(bias, x.data(), padded_dim, in.count, from, to);
        }
        multiply(worker, m, in, delta.data(), padded_dim, false);
        add_bias(bias, delta.data(), padded_dim, in.count, from, to);
        add_delta(worker, l, norm, in.count, from, to);
    }

    // x += scale * norm(delta), for the worker's own rows.
    void add_delta(int worker, const Layer& l, VectorSlot norm, int count, int from, int to) {
        const float* rows = delta.data();
        size_t stride = padded_dim;
        if (l.vector(norm)) {
            team.meet();
            rows = normalised(worker, l, norm, delta.data(), count), stride = widest;
            if (count > kTile) team.meet();
        }
        for (int t = 0; t < count; t++) {
            for (int i = from; i < to; i++) x[t * padded_dim + i] += l.shape.residual_scale * rows[t * stride + i];
        }
    }

    // hidden = act(gate * in) * (up * in), each worker for its own rows.
    void open_network(int worker, const Layer& l, const Stack& gate, const Stack& upper, const float* gate_bias, const float* up_bias,
                      int ffn, const Inputs& in, float* to_hidden, float* to_up, size_t stride) {
        int from, to;
        const int count = in.count;
        own_rows(worker, upper, ffn, from, to);
        const bool gated = l.shape.gated;
        multiply(worker, gated ? gate : upper, in, to_hidden, stride, false);
        add_bias(gated ? gate_bias : up_bias, to_hidden, stride, count, from, to);
        if (gated) {
            multiply(worker, upper, in, to_up, stride, false);
            add_bias(up_bias, to_up, stride, count, from, to);
        }
        for (int t = 0; t < count && from < to; t++) {
            kernels->activate(l.shape.activation, to_hidden + t * stride + from, gated ? to_up + t * stride + from : nullptr, to - from);
        }
    }

    void open_dense(int worker, const Layer& l, const float* normed, int count) {
        const Stack &gate = l.matrices[GATE], &upper = l.matrices[UP];
        const Inputs in = prepare(worker, gate.is_quantised() ? gate : upper, normed, widest, count);
        open_network(worker, l, gate, upper, l.vector(GATE_BIAS), l.vector(UP_BIAS), l.shape.ffn, in, hidden.data(), up.data(), padded_ffn);
    }

    void close_dense(int worker, const Layer& l, int count) {
        const Inputs in = prepare(worker, l.matrices[DOWN], hidden.data(), padded_ffn, count);
        add_to_stream(worker, l, l.matrices[DOWN], l.vector(DOWN_BIAS), POST_FFN_NORM, in);
    }

    // The experts that the router chooses for each position, and the network that is always used.
    void mix_experts(int worker, const Layer& l, int count) {
        const LayerShape& s = l.shape;
        const bool is_apart = l.vector(EXPERTS_NORM);
        const float* normed = normalised(worker, l, is_apart ? ROUTER_NORM : FFN_NORM, x.data(), count);
        const size_t stride = padded_experts;
        float *shared = &scores[count * stride], *shared_up = shared + size_t(count) * padded_shared;
        float* shared_score = shared_up + size_t(count) * padded_shared;
        multiply(worker, l.matrices[ROUTER], prepare(worker, l.matrices[ROUTER], normed, widest, count), scores.data(), stride, false);
        if (is_apart) normed = normalised(worker, l, FFN_NORM, x.data(), count);
        Inputs in = prepare(worker, opened_by(l), normed, widest, count);
        if (s.shared_ffn) {
            open_network(worker, l, l.matrices[SHARED_GATE], l.matrices[SHARED_UP], nullptr, nullptr, s.shared_ffn, in, shared, shared_up,
                         padded_shared);
            const Stack& score = l.matrices[SHARED_SCORE];
            if (!score.parts.empty()) multiply(worker, score, in, shared_score, kRows, false);
        }
        team.meet();
        Routing& routing = scratch[worker].routing;
        routing.choose(scores.data(), stride, l.vector(ROUTER_BIAS), l.vector(EXPERT_SCALES), s, count);
        if (is_apart) in = prepare(worker, opened_by(l), normalised(worker, l, EXPERTS_NORM, x.data(), count), widest, count);
        for (const auto& group : routing.groups) {
            std::vector<Activations>& of_group = scratch[worker].of_group;
            of_group.clear();
            for (int i = 0; i < group.count; i++) of_group.push_back(in.rows[routing.position_of[group.first + i]]);
            const Expert& e = l.experts[group.expert];
            const float *gate_bias = l.vector(GATE_BIAS), *up_bias = l.vector(UP_BIAS);
            const size_t at = size_t(group.expert) * s.ffn;
            open_network(worker, l, e.gate, e.up, gate_bias ? gate_bias + at : nullptr, up_bias ? up_bias + at : nullptr, s.ffn,
                         {of_group.data(), nullptr, group.count}, &hidden[size_t(group.first) * padded_ffn], &up[size_t(group.first) * padded_ffn], padded_ffn);
        }
        team.meet();
        close_experts(worker, l, routing, shared, shared_score, count);
    }

    // Of the matrices that a mixture begins with, one that wants rounded activations if there is one.
    static const Stack& opened_by(const Layer& l) {
        for (const Stack* one : {&l.experts[0].gate, &l.matrices[SHARED_UP], &l.matrices[SHARED_GATE]}) {
            if (one->is_quantised()) return *one;
        }
        return l.experts[0].up;
    }

    void close_experts(int worker, const Layer& l, const Routing& routing, const float* shared, const float* shared_score, int count) {
        const LayerShape& s = l.shape;
        int from, to;
        own_rows(worker, l.experts[0].down, shape.dim, from, to);
        for (const auto& group : routing.groups) {
            const Expert& e = l.experts[group.expert];
            const Inputs in = prepare(worker, e.down, &hidden[size_t(group.first) * padded_ffn], padded_ffn, group.count);
            float* rows = &delta[size_t(group.first) * padded_dim];
            multiply(worker, e.down, in, rows, padded_dim, false);
            const float* bias = l.vector(DOWN_BIAS);
            add_bias(bias ? bias + size_t(group.expert) * shape.dim : nullptr, rows, padded_dim, group.count, from, to);
        }
        // Always summed in the order of the position's own choices, whatever other positions chose.
        for (int t = 0; t < count; t++) {
            for (int i = from; i < to; i++) {
                float sum = 0;
                for (int k = 0; k < s.experts_used; k++) {
                    sum += routing.weights[t * s.experts_used + k] * delta[size_t(routing.slot_of[t * s.experts_used + k]) * padded_dim + i];
                }
                sums[t * padded_dim + i] = sum;
            }
        }
        if (l.vector(EXPERTS_NORM)) return close_apart(worker, l, shared, count, from, to);
        if (s.shared_ffn) {
            const Inputs in = prepare(worker, l.matrices[SHARED_DOWN], shared, padded_shared, count);
            multiply(worker, l.matrices[SHARED_DOWN], in, shared_sums.data(), padded_dim, false);
            for (int t = 0; t < count; t++) {
                const bool is_weighed = !l.matrices[SHARED_SCORE].parts.empty();
                const float weight = is_weighed ? 1.0f / (1.0f + std::exp(-shared_score[t * kRows])) : 1.0f;
                for (int i = from; i < to; i++) sums[t * padded_dim + i] += weight * shared_sums[t * padded_dim + i];
            }
        }
        for (int t = 0; t < count; t++) {
            for (int i = from; i < to; i++) delta[t * padded_dim + i] = sums[t * padded_dim + i];
        }
        add_delta(worker, l, POST_FFN_NORM, count, from, to);
    }

    // The same where experts and shared network each have a norm behind them.
    void close_apart(int worker, const Layer& l, const float* shared, int count, int from, int to) {
        const auto take = [&](VectorSlot norm, const float* rows, bool add) {
            team.meet();
            const float* normed = normalised(worker, l, norm, rows, count);
            if (count > kTile) team.meet();
            for (int t = 0; t < count; t++) {
                for (int i = from; i < to; i++) delta[t * padded_dim + i] = (add ? delta[t * padded_dim + i] : 0.0f) + normed[t * widest + i];
            }
        };
        take(POST_EXPERTS_NORM, sums.data(), false);
        if (l.shape.shared_ffn) {
            const Stack& down = l.matrices[SHARED_DOWN];
            multiply(worker, down, prepare(worker, down, shared, padded_shared, count), shared_sums.data(), padded_dim, false);
            take(POST_SHARED_NORM, shared_sums.data(), true);
        }
        add_delta(worker, l, POST_FFN_NORM, count, from, to);
    }

    // What all layers have of their own embeddings, for the step's positions, of which `input_ids` are the tokens.
    void find_inputs(int worker, int count) {
        const Stack& m = input_projection;
        const int cols = shape.layers * shape.input_dim;
        multiply(worker, m, prepare(worker, m, x.data(), padded_dim, count), layer_inputs.data(), padded_inputs, false);
        team.meet();
        int t, end;
        for (share(worker, count, t, end); t < end; t++) {
            float* row = scratch[worker].input_row.data();
            read_row(inputs.format, inputs.data + input_ids[t] * file_row_bytes(inputs.format, cols), cols, row);
            join_inputs(kernels, shape, global(INPUTS_NORM), row, &layer_inputs[size_t(t) * padded_inputs]);
        }
    }

    // x += norm(out * (act(gate * x) * input))
    void add_input(int worker, int layer, int count) {
        const Layer& l = layers[layer];
        const Stack &gate = l.matrices[INPUT_GATE], &out = l.matrices[INPUT_OUT];
        team.meet();
        multiply(worker, gate, prepare(worker, gate, x.data(), padded_dim, count), hidden.data(), padded_ffn, false);
        int from, to;
        own_rows(worker, gate, shape.input_dim, from, to);
        for (int t = 0; t < count && from < to; t++) {
            const float* input = &layer_inputs[size_t(t) * padded_inputs + size_t(layer) * shape.input_dim + from];
            kernels->activate(shape.input_activation, &hidden[size_t(t) * padded_ffn + from], input, to - from);
        }
        team.meet();
        add_to_stream(worker, l, out, nullptr, INPUT_NORM, prepare(worker, out, hidden.data(), padded_ffn, count));
    }

    void scale_stream(int worker, const Layer& l, float scale, int count) {
        int from, to;
        own_rows(worker, l.matrices[OUT], shape.dim, from, to);
        for (int t = 0; t < count; t++) {
            for (int i = from; i < to; i++) x[size_t(t) * padded_dim + i] *= scale;
        }
    }

    void tile(int worker, int count, const int32_t* positions, Cache* const* caches, float* logits, int logits_from) {
        if (shape.input_dim) find_inputs(worker, count);
        for (int i = 0; i < shape.layers; i++) {
            const Layer& l = layers[i];
            const int heads = heads_of(l.shape);
            const float* normed = normalised(worker, l, ATTENTION_NORM, x.data(), count);
            multiply(worker, l.matrices[QKV], prepare(worker, l.matrices[QKV], normed, widest, count), qkv.data(), padded_qkv, false);
            if (l.shape.parallel) {
                if (l.vector(FFN_NORM)) normed = normalised(worker, l, FFN_NORM, x.data(), count);
                open_dense(worker, l, normed, count);
            }
            team.meet();
            float factors[kWide][2];
            for (int t = 0; t < count; t++) find_norm_factors(l, t, factors[t]);
            if (shape.qk_norm_kind != NO_NORM && shape.qk_norm_of == OF_ALL) team.meet();
            int from, to;
            share(worker, heads * count, from, to);
            for (int item = from; item < to; item++) {
                const int t = item / heads;
                place_head(worker, i, item % heads, t, positions[t], factors[t], *caches[t]);
            }
            team.meet();
            count > kTile ? attend_widely(worker, i, count, positions, caches) : attend(worker, i, count, positions, caches);
            team.meet();
            const Inputs in = prepare(worker, l.matrices[OUT], attended.data(), size_t(l.shape.heads) * l.shape.head_dim, count);
            add_to_stream(worker, l, l.matrices[OUT], l.vector(OUT_BIAS), POST_ATTENTION_NORM, in);
            if (!l.shape.parallel) {
                team.meet();
                if (l.shape.experts) {
                    mix_experts(worker, l, count);
                } else {
                    open_dense(worker, l, normalised(worker, l, FFN_NORM, x.data(), count), count);
                    team.meet();
                }
            }
            if (!l.shape.experts) close_dense(worker, l, count);
            if (shape.input_dim) add_input(worker, i, count);
            if (const float* scale = l.vector(SCALE)) scale_stream(worker, l, *scale, count);
            team.meet();
        }
        if (logits_from >= count) return;
        const int wanted = count - logits_from;
        const float* normed = normalised(worker, global(NORM), global(NORM_BIAS), &x[size_t(logits_from) * padded_dim], wanted);
        const size_t stride = size_t(head.blocks()) * kRows;
        multiply(worker, head, prepare(worker, head, normed, widest, wanted), logits, stride, false);
        finish_logits(worker, logits, stride, wanted);
    }

    void finish_logits(int worker, float* logits, size_t stride, int count) {
        int from, to;
        own_rows(worker, head, shape.vocab, from, to);
        add_bias(global(HEAD_BIAS), logits, stride, count, from, to);
        const float scale = shape.logit_scale, cap = shape.final_softcap;
        if (scale == 1.0f && cap == 0.0f) return;
        for (int t = 0; t < count; t++) {
            for (float* p = logits + t * stride + from; p < logits + t * stride + to; p++) {
                *p *= scale;
                if (cap > 0) *p = cap * std::tanh(*p / cap);
            }
        }
    }

    // Arguments as the library's, which have been looked at.
    void step(const int32_t* token_ids, const int32_t* places, Cache* const* caches, int count, float* logits, int logits_from) {
        const float* learned = global(POSITIONS);
        make_room(count);
        input_ids = token_ids;
        for (int t = 0; t < count; t++) {
            float* row = &x[size_t(t) * padded_dim];
            read_row(embedding.format, embedding.data + token_ids[t] * file_row_bytes(embedding.format, shape.dim), shape.dim, row);
            for (int i = 0; i < shape.dim && shape.embedding_scale != 1.0f; i++) row[i] *= shape.embedding_scale;
            for (int i = 0; i < shape.dim && learned; i++) row[i] += learned[size_t(places[t]) * shape.dim + i];
        }
        reserve_parts(places, count);
        const int kind = std::min(count, kTile + 1) - 1;
        Pace& pace = paces[(logits_from < count) * (kTile + 1) + kind];
        // Steps are compared by the bytes that they read.
        double work = double(bytes_read);
        if (count > kTile) work *= count;
        for (const Layer& l : layers) {
            const double of_position = double(page_bytes(layers[keys_of(int(&l - layers.data()))].shape)) / kStretch;
            for (int t = 0; t < count; t++) work += double(places[t] + 1 - first_seen(l.shape.window, places[t])) * of_position;
        }
        run_at_pace(team, pace, work, [&](int worker) { tile(worker, count, places, caches, logits, logits_from); });
    }
};

}  // namespace llmchat
