// What Python calls: the library's C interface. Everything that comes from outside is looked at here.

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "model.h"

namespace llmchat {

extern "C" {

#ifndef LLMCHAT_SOURCES
#define LLMCHAT_SOURCES unknown
#endif
#define LLMCHAT_QUOTED(name) #name
#define LLMCHAT_TEXT(name) LLMCHAT_QUOTED(name)

// The hash of the sources that this was built from: see sources.py.
const char* llmchat_sources() { return LLMCHAT_TEXT(LLMCHAT_SOURCES); }

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

// Memory that is got ready while the caller does something else. Null without it.
Memory* llmchat_memory_new(size_t bytes) try {
    auto memory = std::make_unique<Memory>(bytes);
    memory->populate();
    return memory.release();
} catch (const std::bad_alloc&) {
    return nullptr;
}

void llmchat_memory_free(Memory* memory) { delete memory; }

// Takes `memory`, which may be null, for its first weights: it is the model's from then on, also where this fails.
Model* llmchat_model_new(const Shape* shape, const LayerShape* layers, const char* kernels, Memory* memory) try {
    std::unique_ptr<Memory> first(memory);
    const Kernels* found = choose(kernels);
    if (!found || !is_sound(*shape)) return nullptr;
    for (int layer = 0; layer < shape->layers; layer++) {
        if (!is_sound(*shape, layers, layer)) return nullptr;
    }
    auto model = std::make_unique<Model>(*shape, layers, found);
    if (first) model->memory.add(std::move(first));
    return model.release();
} catch (const std::bad_alloc&) {
    return nullptr;
}

void llmchat_model_free(Model* model) { delete model; }

// Takes over the codes that a LookUp format looks up; their size is looked at where they are used.
int llmchat_set_table(Model* model, int kind, const void* data, size_t size) try {
    if (kind < 0 || kind >= LOOK_UPS) return REFUSED;
    const uint8_t* bytes = static_cast<const uint8_t*>(data);
    model->tables[kind].assign(bytes, bytes + size);
    return DONE;
} catch (const std::bad_alloc&) {
    return NO_MEMORY;
}

// Repacks a slot's matrices, one below the other; layer -1 is the head. A format is one of decode.h's, or kFormats more than
// one of LookUp. REFUSED if they do not belong there.
int llmchat_set_matrix(Model* model, int layer, int slot, int expert, int parts, const int32_t* formats, const void* const* data,
                       const size_t* sizes, const int32_t* rows, int cols) try {
    Stack* stack = model->stack(layer, slot, expert);
    if (!stack) return REFUSED;
    std::vector<Part> given;
    int64_t all_rows = 0;
    for (int i = 0; i < parts; i++) {
        if (formats[i] < 0 || formats[i] >= kFormats + LOOK_UPS || rows[i] < 1) return REFUSED;
        const int kind = formats[i] - kFormats;
        Part part = {kind < 0 ? Format(formats[i]) : looked_up_as(kind), static_cast<const uint8_t*>(data[i]), rows[i]};
        if (cols % columns_together(part.format)) return REFUSED;
        if (kind >= 0) {
            const std::vector<uint8_t>& table = model->tables[kind];
            if (!look_up_fits(kind, size_t(rows[i]) * (cols / kSuper), sizes[i], table.size())) return REFUSED;
            part.look_up = kind, part.table = table.data();
        } else if (sizes[i] != rows[i] * file_row_bytes(part.format, cols)) {
            return REFUSED;
        }
        given.push_back(part), all_rows += rows[i];
    }
    const auto [wanted_rows, wanted_cols] = model->matrix_size(layer, slot);
    if (all_rows != wanted_rows || cols != wanted_cols) return REFUSED;
    return stack->fill(given, cols, model->memory, model->team) ? DONE : REFUSED;
} catch (const std::bad_alloc&) {
    return NO_MEMORY;
}

// Maps a file of weights that were repacked before, which the model holds from then on; null where that fails.
const void* llmchat_map(Model* model, int file, size_t bytes) {
    model->mapped.reset(Mapped::open(file, bytes));
    return model->mapped ? model->mapped->base() : nullptr;
}

// Takes a slot's matrices from the mapped file, where they begin at some bytes. REFUSED if they do not belong there or do
// not lie inside.
int llmchat_place_matrix(Model* model, int layer, int slot, int expert, int parts, const int32_t* formats, const size_t* offsets,
                         const int32_t* rows, int cols) try {
    Stack* stack = model->stack(layer, slot, expert);
    if (!stack || !model->mapped || parts < 1) return REFUSED;
    const auto [wanted_rows, wanted_cols] = model->matrix_size(layer, slot);
    const size_t all_bytes = model->mapped->bytes();
    std::vector<Matrix> given;
    int64_t all_rows = 0;
    for (int i = 0; i < parts; i++) {
        if (formats[i] < 0 || formats[i] >= kFormats || rows[i] < 1 || rows[i] > kMost || cols != wanted_cols) return REFUSED;
        const Format format = Format(formats[i]);
        if (cols % columns_together(format) || offsets[i] % 64) return REFUSED;
        const size_t bytes = repacked_bytes(format, rows[i], cols);
        if (offsets[i] > all_bytes || bytes > all_bytes - offsets[i]) return REFUSED;
        given.push_back({format, rows[i], cols, model->mapped->base() + offsets[i]}), all_rows += rows[i];
    }
    return all_rows == wanted_rows && stack->place(given) ? DONE : REFUSED;
} catch (const std::bad_alloc&) {
    return NO_MEMORY;
}

// One of a slot's matrices as it is kept. REFUSED if there are not so many.
int llmchat_part(const Model* model, int layer, int slot, int expert, int part, int32_t* format, int32_t* rows, int32_t* cols,
                 const void** data, size_t* size) {
    const Stack* stack = model->stack(layer, slot, expert);
    if (!stack || part < 0 || size_t(part) >= stack->parts.size()) return REFUSED;
    const Matrix& m = stack->parts[part];
    *format = int32_t(m.format), *rows = m.rows, *cols = m.cols, *data = m.data, *size = repacked_bytes(m.format, m.rows, m.cols);
    return DONE;
}

// Adds scale * factor * up * down to some rows of a slot's matrix, whose own are there already. REFUSED if they do not fit.
int llmchat_add_low_rank(Model* model, int layer, int slot, int expert, int first_row, int rows, int rank, int down_format,
                         const void* down, size_t down_size, int up_format, const void* up, size_t up_size, float factor) try {
    Stack* stack = model->stack(layer, slot, expert);
    if (!stack || stack->parts.empty()) return REFUSED;
    const auto [all_rows, cols] = model->matrix_size(layer, slot);
    if (rank < 1 || rank > kMost || rows < 1 || first_row < 0 || first_row % kRows || first_row > all_rows - rows) return REFUSED;
    if (rows % kRows && first_row + rows != all_rows) return REFUSED;  // or it would reach into the rows of another worker
    for (int format : {down_format, up_format}) {
        if (format < 0 || format >= kFormats || layout_of(Format(format)).bits) return REFUSED;
    }
    const Part halves[] = {{Format(down_format), static_cast<const uint8_t*>(down), rank},
                           {Format(up_format), static_cast<const uint8_t*>(up), rows}};
    if (down_size != rank * file_row_bytes(halves[0].format, cols)) return REFUSED;
    if (up_size != rows * file_row_bytes(halves[1].format, rank)) return REFUSED;
    stack->add(halves[0], halves[1], first_row / kRows, cols, factor, model->memory, model->team);
    model->reserve_rank(rank);
    return DONE;
} catch (const std::bad_alloc&) {
    return NO_MEMORY;
}

// How much of what was added counts, from the next step on; with 0 a step is what it is without.
void llmchat_set_lora_scale(Model* model, float scale) { model->lora_scale = scale; }

// Unpacks blocks of a LookUp format with all threads into as many of what it becomes. REFUSED if the sizes are not theirs.
int llmchat_look_up(Model* model, int kind, const void* data, size_t size, void* to, size_t blocks) {
    if (kind < 0 || kind >= LOOK_UPS || !look_up_fits(kind, blocks, size, model->tables[kind].size())) return REFUSED;
    const int workers = model->team.size();
    model->team.run(workers, [&](int worker) {
        const size_t first = blocks * worker / workers, end = blocks * (worker + 1) / workers;
        look_up(kind, static_cast<const uint8_t*>(data), first, end, model->tables[kind].data(), static_cast<uint8_t*>(to) + first * kCodedBytes);
    });
    return DONE;
}

// Takes a row for each token of the vocabulary, which stay where they are. Returns 0, or 1 if they are no such rows.
int llmchat_set_embedding(Model* model, int format, const void* data, size_t size) {
    const Shape& s = model->shape;
    if (format < 0 || format >= kFormats || s.dim % columns_together(Format(format))) return REFUSED;
    if (size != s.vocab * file_row_bytes(Format(format), s.dim)) return REFUSED;
    model->embedding = {Format(format), static_cast<const uint8_t*>(data), s.vocab};
    return DONE;
}

// The same of the layers' own inputs: for each token a row for all layers, one behind the other.
int llmchat_set_inputs(Model* model, int format, const void* data, size_t size) {
    const Shape& s = model->shape;
    const int cols = s.layers * s.input_dim;
    if (!cols || format < 0 || format >= kFormats || cols % columns_together(Format(format))) return REFUSED;
    if (size != s.vocab * file_row_bytes(Format(format), cols)) return REFUSED;
    model->inputs = {Format(format), static_cast<const uint8_t*>(data), s.vocab};
    return DONE;
}

// Takes over a vector; layer -1 are the model's own. REFUSED if it does not belong there.
int llmchat_set_vector(Model* model, int layer, int slot, const float* data, size_t count) {
    std::vector<float>* vector = model->vector_at(layer, slot);
    if (!vector || count != model->vector_size(layer, slot)) return REFUSED;
    vector->assign(data, data + count);
    return DONE;
}

// Takes over the cosines and sines of positions from 0, rows of dim / 2. REFUSED if there is no such rotation.
int llmchat_set_rope(Model* model, int rope, const float* cosines, const float* sines, int positions, int dim, int interleaved) {
    if (rope < 0 || rope >= model->shape.ropes || dim < 2 || dim % 2 || !model->can_turn(rope, dim) || positions < 1) return REFUSED;
    Rotation& rotation = model->rotations[rope];
    rotation.dim = dim, rotation.interleaved = interleaved;
    const size_t count = size_t(positions) * (dim / 2);
    rotation.cosines.assign(cosines, cosines + count), rotation.sines.assign(sines, sines + count);
    return DONE;
}

// Bytes of weights that every token reads, as they are kept; of the embedding it reads one row, which is not among them.
size_t llmchat_weight_bytes(const Model* model) { return model->bytes(); }

// Bytes of one position's keys and values in all layers.
size_t llmchat_position_bytes(const Model* model) { return model->position_bytes(); }

// A KV cache that holds nothing yet.
Cache* llmchat_cache_new(const Model* model) try {
    return new Cache(model->what_is_held());
} catch (const std::bad_alloc&) {
    return nullptr;
}

void llmchat_cache_free(Cache* cache) { delete cache; }

// Makes room behind the first `length` positions for those up to `end`; layers with a window let go of what is behind it.
int llmchat_cache_reserve(Cache* cache, int length, int end) try {
    if (length < 0 || end < length || end > kMost) return REFUSED;
    cache->reserve(length, end);
    return DONE;
} catch (const std::bad_alloc&) {
    return NO_MEMORY;
}

// Goes back to the first `length` positions, or to as many of them as it still can; returns how many.
int llmchat_cache_rewind(Cache* cache, int length) try {
    return cache->rewind(std::clamp(length, 0, kMost));
} catch (const std::bad_alloc&) {
    return 0;
}

// Keeps what is needed to go back to the first `length` positions, and to the length that was marked before.
void llmchat_cache_mark(Cache* cache, int length) { cache->mark(length); }

// Takes over the first `length` positions of another cache of the same model, which must hold them.
int llmchat_cache_copy(const Cache* from, Cache* to, int length) try {
    if (from == to || length < 0 || length > kMost || !to->is_like(*from) || !from->holds(length)) return REFUSED;
    to->copy(*from, length);
    return DONE;
} catch (const std::bad_alloc&) {
    return NO_MEMORY;
}

// Bytes of the pages that it holds.
size_t llmchat_cache_bytes(const Cache* cache) { return cache->bytes(); }

// Bytes of an image of what is needed to go on behind the first `length` positions; 0 if they are none.
size_t llmchat_cache_image_bytes(const Cache* cache, int length) {
    return length < 0 || length > kMost ? 0 : cache->image_bytes(length);
}

// Writes that image; REFUSED if the cache does not hold them, or the size is not the image's.
int llmchat_cache_write_image(const Cache* cache, int length, void* to, size_t size) {
    if (length < 0 || length > kMost || size != cache->image_bytes(length) || !cache->holds(length)) return REFUSED;
    cache->write_image(length, static_cast<uint8_t*>(to));
    return DONE;
}

// Takes an image over into a cache that holds nothing yet. It has numbers alone, so whatever they are does no harm.
int llmchat_cache_read_image(Cache* cache, int length, const void* from, size_t size) try {
    if (length < 0 || length > kMost || size != cache->image_bytes(length) || cache->bytes()) return REFUSED;
    cache->read_image(length, static_cast<const uint8_t*>(from));
    return DONE;
} catch (const std::bad_alloc&) {
    return NO_MEMORY;
}

// How many workers the next step of one position with logits gets.
int llmchat_workers(const Model* model) { return model->paces[kTile + 1].workers(); }

// Runs `count` positions (at most kWide) and writes the logits of those from `logits_from` on,
// each row with whole blocks of the vocabulary.
// Returns 0, 1 if the model is incomplete or a token or position lies outside, 2 without memory, or 3 if the file of its
// weights was cut off.
int llmchat_step(Model* model, const int32_t* token_ids, const int32_t* positions, Cache* const* caches, int count,
                 float* logits, int logits_from) try {
    if (count < 1 || count > kWide || logits_from < 0 || !model->is_complete()) return REFUSED;
    for (int t = 0; t < count; t++) {
        if (token_ids[t] < 0 || token_ids[t] >= model->shape.vocab) return REFUSED;
        if (!model->has_place(*caches[t], positions[t])) return REFUSED;
    }
    model->step(token_ids, positions, caches, count, logits, logits_from);
    return model->mapped && model->mapped->is_torn() ? CUT_OFF : DONE;
} catch (const std::bad_alloc&) {
    return NO_MEMORY;
}
}

}  // namespace llmchat
