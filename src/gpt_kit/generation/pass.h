// A GPT's pass over rows, each of which is one token of one text: what is alike in all number formats. A file that includes this says
// how weights are multiplied (`take` and `linear`) and how keys and values are kept and looked at (`remember` and `attend`).
//
// Each row is computed by itself, in one order: what comes out does not depend on how many rows there are, nor on the number of threads.
// Shapes: V tokens, C channels, H heads of D. All loops that are shared among threads (omp for) end in a barrier.

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <string.h>

// As many floats as a register holds, anywhere in memory.
#ifdef __AVX512F__
enum { VECTOR = 16 };
#else
enum { VECTOR = 8 };
#endif
typedef float Floats __attribute__((vector_size(4 * VECTOR), aligned(4)));
typedef int32_t Wholes __attribute__((vector_size(4 * VECTOR), aligned(4)));

enum { ROWS_AT_ONCE = 256 };

typedef struct {
    const void *weight;        // in the layout of its format
    const int32_t *sum;        // int8: [out] of each row of the weight
    const float *scale, *bias; // int8: [out]; [out]
    int64_t in, out;
} Linear;

typedef struct {
    const float *weight, *bias; // [C], or NULL: no norm
    float epsilon;
} Norm;

typedef struct {
    Norm attention_norm, feed_forward_norm;
    Linear qkv, projection, expand, contract;
    void *keys, *values;              // of all slots, in the layout of their format
    float *key_scales, *value_scales; // int8
} Block;

typedef struct {
    int64_t n_layer, n_embd, n_inner, n_head, capacity, pre_norm, threads;
    const float *token_embedding, *position_embedding; // [V][C], [positions][C] or NULL
    const float *cos, *sin;                            // [positions][D / 2], or NULL: no rotary positions
    const Block *blocks;
    Norm final_norm;
    Linear head;
    float embedding_scale;
    // Room to work in, for up to ROWS_AT_ONCE rows
    void *inputs;        // [rows][row_stride(in)]: what a linear layer takes
    float *scale;        // int8: [rows] of it
    int32_t *zero;       // int8: [rows] of it
    float *wide, *mixed; // [rows][the widest output], [rows][C]
    float *scores;       // [threads][capacity, rounded up to 16]
} Model;

typedef struct {
    int64_t count;
    const int64_t *tokens, *slots, *positions; // [rows]
} Rows;

enum Then { WRITE, GELU, ADD }; // what happens to the outputs of a linear layer

// x [rows][n], through `norm` if there is one, to where `linear` reads. With `back` the normed x takes x's place.
static void take(const Model *m, const Norm *norm, float *x, int64_t rows, int64_t n, int back);
// What was taken -> out [rows][out].
static void linear(const Linear *l, const Model *m, int64_t rows, enum Then then, float *out);
// `wide` [rows][3][H][D] -> keys and values of each row, put where its text stays.
static void remember(const Model *m, const Block *b, const Rows *rows);
// `wide` and all that each row's text has said so far -> `mixed` [rows][C].
static void attend(const Model *m, const Block *b, const Rows *rows, float *scores);
// By each thread, before its first product and after its last.
static void begin_products(void);
static void end_products(void);

static int64_t up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Numbers from one row of an input to the next: no multiple of 4096 bytes, or rows would push each other out of the cache.
static int64_t row_stride(int64_t inputs) { return up(inputs, 64) + 64; }

static Floats at_most(Floats x, float limit) {
    const Wholes above = x > limit;
    return (Floats)(((Wholes)(limit + (Floats){0}) & above) | ((Wholes)x & ~above));
}

static Floats exponential(Floats x) { // relative error 2e-7 (Cephes' polynomial); what lies outside -87 to 88 counts as that
    x = -at_most(-at_most(x, 88), 87);
    const Floats n = x * 1.44269504f + 12582912 - 12582912; // 1.5 * 2^23: no room for what is less than 1
    const Floats r = x - n * 0.693359375f + n * 2.12194440e-4f;
    Floats p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    return (p * (r * r) + r + 1) * (Floats)((__builtin_convertvector(n, Wholes) + 127) << 23);
}

static Floats gelu(Floats x) { // the tanh form: x / (1 + exp(-2 sqrt(2 / pi) (x + 0.044715 x^3)))
    return x / (1 + exponential((x * x * x * 0.044715f + x) * -1.5957691216f));
}

// LayerNorm of [n] into out.
static void normalize(const Norm *norm, const float *x, int64_t n, float *out) {
    float mean = 0, variance = 0;
#pragma omp simd reduction(+ : mean)
    for (int64_t i = 0; i < n; i++) mean += x[i];
    mean /= n;
#pragma omp simd reduction(+ : variance)
    for (int64_t i = 0; i < n; i++) variance += (x[i] - mean) * (x[i] - mean);
    const float inverse = 1 / sqrtf(variance / n + norm->epsilon);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) out[i] = (x[i] - mean) * inverse * norm->weight[i] + norm->bias[i];
}

// Channel pairs (i, i + D/2) of a head, turned by the angle of their position (Su et al. 2021, section 3.4).
static void rotate(float *head, int64_t width, const float *cos, const float *sin) {
    for (int64_t i = 0; i < width / 2; i++) {
        const float a = head[i], b = head[i + width / 2];
        head[i] = a * cos[i] - b * sin[i];
        head[i + width / 2] = a * sin[i] + b * cos[i];
    }
}

// Query and key of a head of a row, turned if positions are rotary.
static void rotate_both(const Model *m, const Rows *rows, int64_t row, float *query) {
    if (!m->cos) return;
    const int64_t width = m->n_embd / m->n_head, at = rows->positions[row] * (width / 2);
    rotate(query, width, m->cos + at, m->sin + at);
    rotate(query + m->n_embd, width, m->cos + at, m->sin + at);
}

// x [rows][C]: what the first block reads.
static void embed(const Model *m, const Rows *rows, float *x) {
#pragma omp for schedule(static)
    for (int64_t r = 0; r < rows->count; r++) {
        const float *token = m->token_embedding + rows->tokens[r] * m->n_embd;
        const float *position = m->position_embedding ? m->position_embedding + rows->positions[r] * m->n_embd : NULL;
        for (int64_t i = 0; i < m->n_embd; i++) x[r * m->n_embd + i] = token[i] * m->embedding_scale + (position ? position[i] : 0);
    }
}

static void run_blocks(const Model *m, const Rows *rows, float *x) {
    const int64_t n = rows->count, width = m->n_embd;
    float *scores = m->scores + omp_get_thread_num() * up(m->capacity, 16);
    for (const Block *b = m->blocks; b < m->blocks + m->n_layer; b++) {
        take(m, m->pre_norm ? &b->attention_norm : NULL, x, n, width, 0);
        linear(&b->qkv, m, n, WRITE, m->wide);
        remember(m, b, rows);
        attend(m, b, rows, scores);
        take(m, NULL, m->mixed, n, width, 0);
        linear(&b->projection, m, n, ADD, x);
        take(m, m->pre_norm ? &b->feed_forward_norm : &b->attention_norm, x, n, width, !m->pre_norm);
        linear(&b->expand, m, n, GELU, m->wide);
        take(m, NULL, m->wide, n, m->n_inner, 0);
        linear(&b->contract, m, n, ADD, x);
        if (!m->pre_norm) take(m, &b->feed_forward_norm, x, n, width, 1);
    }
    if (m->final_norm.weight) {
#pragma omp for schedule(static)
        for (int64_t r = 0; r < n; r++) normalize(&m->final_norm, x + r * width, width, x + r * width);
    }
}

// Tokens -> hidden states [count][C].
void read_tokens(const Model *m, int64_t count, const int64_t *tokens, const int64_t *slots, const int64_t *positions, float *x) {
#pragma omp parallel num_threads(m->threads)
    {
        begin_products();
        for (int64_t at = 0; at < count; at += ROWS_AT_ONCE) {
            const Rows rows = {count - at < ROWS_AT_ONCE ? count - at : ROWS_AT_ONCE, tokens + at, slots + at, positions + at};
            embed(m, &rows, x + at * m->n_embd);
            run_blocks(m, &rows, x + at * m->n_embd);
        }
        end_products();
    }
}

// hidden [count][C] -> logits [count][V].
void score_tokens(const Model *m, int64_t count, float *hidden, float *logits) {
#pragma omp parallel num_threads(m->threads)
    {
        begin_products();
        for (int64_t at = 0; at < count; at += ROWS_AT_ONCE) {
            const int64_t rows = count - at < ROWS_AT_ONCE ? count - at : ROWS_AT_ONCE;
            take(m, NULL, hidden + at * m->n_embd, rows, m->n_embd, 0);
            linear(&m->head, m, rows, WRITE, logits + at * m->head.out);
        }
        end_products();
    }
}
