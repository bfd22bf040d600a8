// The library's interface, written once for both sides: C++ includes it, and interface.py reads its structs, enums
// and functions out of it. So it holds plain declarations alone, each of a field's type on a line of its own.

#pragma once

#include <stddef.h>
#include <stdint.h>

namespace llmchat {

struct Cache;
struct Memory;
struct Model;

// Dimensions of a model, and what its layers have in common.
struct Shape {
    int32_t dim, layers, vocab, context, ropes, threads;
    int32_t norm_kind, qk_norm_kind, qk_norm_of;
    int32_t input_dim, input_activation;
    float eps, embedding_scale, logit_scale, final_softcap;
};

// One layer: what is not told by the matrices and vectors that it is given. With keys_of it reads the keys and values of
// that layer, which lies before it; else it is -1.
struct LayerShape {
    int32_t heads, kv_heads, head_dim, keys_of, values_are_keys;
    int32_t rope, window, qk_norm_last, gain_length;
    int32_t parallel, activation, gated, ffn, experts, experts_used, renormalise, shared_ffn;
    float scale, softcap, clip, gain_beta, residual_scale;
};

enum NormKind { NO_NORM, RMS_NORM, LAYER_NORM };
enum QkNormOf { OF_HEAD, OF_EACH, OF_ALL };
enum Activation { SILU, GELU, GELU_TANH, RELU2, CLAMPED_SWISH, ACTIVATIONS };

// A layer's matrices. GATE, UP and DOWN are those of one expert where there are several. Layer -1 has the head as QKV, and
// as INPUT_GATE what the stream gives to the layers' own inputs.
enum MatrixSlot {
    QKV, OUT, GATE, UP, DOWN, ROUTER, SHARED_GATE, SHARED_UP, SHARED_DOWN, SHARED_SCORE, INPUT_GATE, INPUT_OUT, LAYER_MATRICES
};

// A layer's vectors; the biases of experts lie one behind the other. A norm is there if its weight is.
enum VectorSlot {
    ATTENTION_NORM, ATTENTION_NORM_BIAS, POST_ATTENTION_NORM, POST_ATTENTION_NORM_BIAS,
    FFN_NORM, FFN_NORM_BIAS, POST_FFN_NORM, POST_FFN_NORM_BIAS,
    Q_NORM, Q_NORM_BIAS, K_NORM, K_NORM_BIAS,
    QKV_BIAS, OUT_BIAS, GATE_BIAS, UP_BIAS, DOWN_BIAS, ROUTER_BIAS, SINKS,
    V_NORM, INPUT_NORM, INPUT_NORM_BIAS, SCALE,
    ROUTER_NORM, EXPERTS_NORM, POST_EXPERTS_NORM, POST_SHARED_NORM, EXPERT_SCALES, LAYER_VECTORS
};

// The vectors of layer -1.
enum GlobalSlot { NORM, NORM_BIAS, POSITIONS, HEAD_BIAS, INPUTS_NORM, GLOBALS };

// Formats that look numbers up, or pack them as digits of three.
enum LookUp { IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, TQ1_0, TQ2_0, LOOK_UPS };

enum Result { DONE, REFUSED, NO_MEMORY, CUT_OFF };

extern "C" {
const char* llmchat_sources();
const char* llmchat_kernels(const char* wanted);
Memory* llmchat_memory_new(size_t bytes);
void llmchat_memory_free(Memory* memory);
Model* llmchat_model_new(const Shape* shape, const LayerShape* layers, const char* kernels, Memory* memory);
void llmchat_model_free(Model* model);
int llmchat_set_matrix(Model* model, int layer, int slot, int expert, int parts, const int32_t* formats, const void* const* data, const size_t* sizes, const int32_t* rows, int cols);
const void* llmchat_map(Model* model, int file, size_t bytes);
int llmchat_place_matrix(Model* model, int layer, int slot, int expert, int parts, const int32_t* formats, const size_t* offsets, const int32_t* rows, int cols);
int llmchat_part(const Model* model, int layer, int slot, int expert, int part, int32_t* format, int32_t* rows, int32_t* cols, const void** data, size_t* size);
int llmchat_add_low_rank(Model* model, int layer, int slot, int expert, int first_row, int rows, int rank, int down_format, const void* down, size_t down_size, int up_format, const void* up, size_t up_size, float factor);
void llmchat_set_lora_scale(Model* model, float scale);
int llmchat_set_table(Model* model, int kind, const void* data, size_t size);
int llmchat_look_up(Model* model, int kind, const void* data, size_t size, void* to, size_t blocks);
int llmchat_set_embedding(Model* model, int format, const void* data, size_t size);
int llmchat_set_inputs(Model* model, int format, const void* data, size_t size);
int llmchat_set_vector(Model* model, int layer, int slot, const float* data, size_t count);
int llmchat_set_rope(Model* model, int rope, const float* cosines, const float* sines, int positions, int dim, int interleaved);
size_t llmchat_weight_bytes(const Model* model);
size_t llmchat_position_bytes(const Model* model);
double llmchat_read_bandwidth(const void* data, size_t bytes, int threads);
Cache* llmchat_cache_new(const Model* model);
void llmchat_cache_free(Cache* cache);
int llmchat_cache_reserve(Cache* cache, int length, int end);
int llmchat_cache_rewind(Cache* cache, int length);
void llmchat_cache_mark(Cache* cache, int length);
int llmchat_cache_copy(const Cache* from, Cache* to, int length);
size_t llmchat_cache_bytes(const Cache* cache);
size_t llmchat_cache_image_bytes(const Cache* cache, int length);
int llmchat_cache_write_image(const Cache* cache, int length, void* to, size_t size);
int llmchat_cache_read_image(Cache* cache, int length, const void* from, size_t size);
int llmchat_workers(const Model* model);
int llmchat_step(Model* model, const int32_t* token_ids, const int32_t* positions, Cache* const* caches, int count, float* logits, int logits_from);
}

}  // namespace llmchat
