// A GPT in int8: one pass over rows, each of which is one token of one text.
//
// Every product is of whole numbers: out = (sum of x * w) * x's scale * w's scale. Weights are rounded once, each output channel by its
// own scale; the rows of x at each call, each by its own range (Dettmers et al. 2022, section 3.1: vector-wise quantization). Keys and
// values are kept in int8, each head of each token by its own scale; what they are multiplied by is rounded to 16 bits. Norms, softmax,
// GELU and the residual stream are float32. Each row is computed by itself, in one order: what comes out does not depend on how many
// rows there are, nor on the number of threads.
//
// One token waits for memory, so each weight is read once for all rows, and asked for before its turn; 32 wait for products, of which
// AVX-512 VNNI makes 64 in an instruction (each of 16 lanes adds four). Shapes: C channels, H heads of D, in memory P = D rounded up to
// 32. All loops that are shared among threads (omp for) end in a barrier.

#include <immintrin.h>
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <string.h>

static const float SMALLEST = 1e-12f; // a row of zeros has no scale

enum {
    LANES = 16,
    COLUMNS = 2 * LANES, ROWS = 8, // a tile of outputs: 16 sums in 16 of the 32 registers (with 24, gcc 12 spills)
    CHANNELS = 32,                 // of int8 that 16 lanes hold as pairs of 16 bits
    ROWS_AT_ONCE = 256,
};

typedef struct {
    const int8_t *weight; // [out / 16][in / 4][16][4], padded by zeros to whole tiles
    const int32_t *sum;   // [out] of each row of the weight, as x is moved by its zero point to be unsigned
    const float *scale, *bias; // [out]
    int64_t in, out;
} Linear;

typedef struct {
    const float *weight, *bias; // [C]
    float epsilon;
} Norm;

typedef struct {
    Norm attention_norm, feed_forward_norm;
    Linear qkv, projection, expand, contract;
    int8_t *keys;                     // [slots][H][capacity][P]
    int8_t *values;                   // [slots][H][capacity / 2][P][2]: pairs of tokens
    float *key_scales, *value_scales; // [slots][H][capacity]
} Block;

typedef struct {
    int64_t n_layer, n_embd, n_inner, n_head, capacity, pre_norm, threads; // the capacity is a multiple of 16
    const float *token_embedding, *position_embedding; // [V][C], [positions][C] or NULL
    const float *cos, *sin;                            // [positions][D / 2], or NULL: no rotary positions
    const Block *blocks;
    Norm final_norm; // of models whose blocks begin with a norm
    Linear head;
    float embedding_scale;
    // Room to work in, for up to ROWS_AT_ONCE rows
    uint8_t *whole;      // [rows][row_stride(inputs)]: what a linear layer takes
    float *scale;        // [rows] of it
    int32_t *zero;       // [rows] of it
    float *wide, *mixed; // [rows][the widest output], [rows][C]
    float *scores;       // [threads][capacity]
} Model;

typedef struct {
    int64_t count;
    const int64_t *tokens, *slots, *positions; // [rows]
} Rows;

static int64_t up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Bytes from one row of an input to the next: no multiple of 4096, or rows would push each other out of the cache.
static int64_t row_stride(int64_t inputs) { return up(inputs, 64) + 64; }

static __m512 exponential(__m512 x) { // relative error 2e-7 (Cephes' polynomial); infinite above 89, next to nothing below -100
    x = _mm512_max_ps(_mm512_min_ps(x, _mm512_set1_ps(100)), _mm512_set1_ps(-100));
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x));
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    const float terms[] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
    for (int i = 0; i < 5; i++) p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(terms[i]));
    p = _mm512_add_ps(_mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r), _mm512_set1_ps(1));
    return _mm512_scalef_ps(p, n);
}

static __m512 gelu(__m512 x) { // the tanh form: x / (1 + exp(-2 sqrt(2 / pi) (x + 0.044715 x^3)))
    const __m512 cube = _mm512_mul_ps(_mm512_mul_ps(x, x), x);
    const __m512 inner = _mm512_mul_ps(_mm512_fmadd_ps(cube, _mm512_set1_ps(0.044715f), x), _mm512_set1_ps(-1.5957691216f));
    return _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1), exponential(inner)));
}

static __m512i shorts(const int8_t *x) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)x)); }

// Ask for memory that will be read soon.
static void fetch(const void *memory, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += 64) _mm_prefetch((const char *)memory + i, _MM_HINT_T1);
}

// 32 bits of each lane -> the lower 16, which stand in pairs where dpwssd expects them.
static void store_shorts(int16_t *to, __m512i x) { _mm256_storeu_si256((__m256i *)to, _mm512_cvtsepi32_epi16(x)); }

// Sums of halves: a's four blocks of 128 bits become two, b's the other two.
static __m512i halve(__m512i a, __m512i b) {
    return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
}

// Lane i: the sum of all lanes of x[i].
static __m512i totals(const __m512i x[LANES]) {
    __m512i four[4];
    for (int i = 0; i < 4; i++) four[i] = halve(halve(x[i], x[4 + i]), halve(x[8 + i], x[12 + i]));
    const __m512i low = _mm512_add_epi32(_mm512_unpacklo_epi32(four[0], four[1]), _mm512_unpackhi_epi32(four[0], four[1]));
    const __m512i high = _mm512_add_epi32(_mm512_unpacklo_epi32(four[2], four[3]), _mm512_unpackhi_epi32(four[2], four[3]));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(low, high), _mm512_unpackhi_epi64(low, high));
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

// [n] -> 0 to 255: x = (whole - zero) * scale.
static void quantize(const float *x, int64_t n, uint8_t *whole, float *scale, int32_t *zero) {
    float low = 0, high = 0; // 0 is kept exactly
#pragma omp simd reduction(min : low) reduction(max : high)
    for (int64_t i = 0; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    *scale = fmaxf((high - low) / 255, SMALLEST);
    *zero = (int32_t)(-low / *scale + 0.5f);
    const float inverse = 1 / *scale, shift = *zero + 0.5f;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const int32_t rounded = (int32_t)(x[i] * inverse + shift);
        whole[i] = rounded > 255 ? 255 : rounded;
    }
}

// [n] -> -limit to limit: x = whole * scale, which is returned.
static float round_to(int32_t limit, const float *x, int64_t n, int32_t *whole) {
    float largest = 0;
#pragma omp simd reduction(max : largest)
    for (int64_t i = 0; i < n; i++) largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    const float scale = fmaxf(largest / limit, SMALLEST), inverse = 1 / scale;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) whole[i] = (int32_t)(x[i] * inverse + limit + 0.5f) - limit;
    return scale;
}

enum Then { WRITE, GELU, ADD }; // what happens to the outputs of a linear layer

// Sums of x * w for outputs [column, column + 32) of `rows` rows. `rows` is a constant where it is called, so that the sums stay in
// registers.
static inline __attribute__((always_inline)) void multiply(
    const int rows, const int8_t *weight, int64_t inputs, const uint8_t *x, int64_t stride, int32_t out[ROWS][COLUMNS]) {
    __m512i sums[ROWS][2];
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < 2; c++) sums[r][c] = _mm512_setzero_si512();
    for (int64_t k = 0; k < inputs; k += 4) {
        __m512i four[2];
        for (int c = 0; c < 2; c++) {
            four[c] = _mm512_load_si512(weight + (c * inputs + k) * LANES);
            _mm_prefetch(weight + ((2 + c) * inputs + k) * LANES, _MM_HINT_T1); // those that come next
        }
        for (int r = 0; r < rows; r++) {
            int32_t input;
            memcpy(&input, x + r * stride + k, 4);
            for (int c = 0; c < 2; c++) sums[r][c] = _mm512_dpbusd_epi32(sums[r][c], _mm512_set1_epi32(input), four[c]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < 2; c++) _mm512_store_si512(out[r] + c * LANES, sums[r][c]);
}

// And what becomes of them.
static void tile(int64_t rows, const Linear *l, const Model *m, int64_t first, int64_t column, enum Then then, float *out) {
    const int64_t stride = row_stride(l->in);
    const int8_t *weight = l->weight + column * l->in;
    const uint8_t *x = m->whole + first * stride;
    int32_t sums[ROWS][COLUMNS] __attribute__((aligned(64)));
    const int64_t outputs = l->out, count = rows < ROWS ? rows : ROWS;
    if (then == WRITE) // logits are many megabytes, so their lines have to be fetched too
        for (int64_t r = 0; r < count; r++) {
            char *to = (char *)(out + (first + r) * outputs + column);
            __builtin_prefetch(to, 1), __builtin_prefetch(to + 64, 1), __builtin_prefetch(to + 127, 1);
        }
    switch (rows) {
        case 1: multiply(1, weight, l->in, x, stride, sums); break;
        case 2: multiply(2, weight, l->in, x, stride, sums); break;
        case 3: multiply(3, weight, l->in, x, stride, sums); break;
        case 4: multiply(4, weight, l->in, x, stride, sums); break;
        case 5: multiply(5, weight, l->in, x, stride, sums); break;
        case 6: multiply(6, weight, l->in, x, stride, sums); break;
        case 7: multiply(7, weight, l->in, x, stride, sums); break;
        default: multiply(8, weight, l->in, x, stride, sums);
    }
    for (int64_t at = column; at < column + COLUMNS && at < outputs; at += LANES) {
        const __mmask16 there = outputs - at < LANES ? (1 << (outputs - at)) - 1 : 0xffff;
        const __m512i weight_sum = _mm512_loadu_si512(l->sum + at);
        const __m512 weight_scale = _mm512_loadu_ps(l->scale + at), bias = _mm512_loadu_ps(l->bias + at);
        for (int64_t r = 0; r < count; r++) {
            float *to = out + (first + r) * outputs + at;
            const __m512i moved = _mm512_mullo_epi32(_mm512_set1_epi32(m->zero[first + r]), weight_sum);
            const __m512i sum = _mm512_sub_epi32(_mm512_load_si512(sums[r] + at - column), moved);
            const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(m->scale[first + r]), weight_scale);
            __m512 y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, bias);
            if (then == GELU) y = gelu(y);
            if (then == ADD) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(there, to));
            _mm512_mask_storeu_ps(to, there, y);
        }
    }
}

// The rows in `whole` -> out [rows][out].
static void linear(const Linear *l, const Model *m, int64_t rows, enum Then then, float *out) {
#pragma omp for schedule(static)
    for (int64_t column = 0; column < l->out; column += COLUMNS)
        for (int64_t row = 0; row < rows; row += ROWS) tile(rows - row, l, m, row, column, then, out);
}

// x [rows][n], through `norm` if there is one, into `whole`. With `back` the normed x takes x's place.
static void take(const Model *m, const Norm *norm, float *x, int64_t rows, int64_t n, int back) {
    const int64_t stride = row_stride(n);
#pragma omp for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        float *from = x + r * n, *normed = back ? from : m->mixed + r * n;
        if (norm) normalize(norm, from, n, normed);
        quantize(norm ? normed : from, n, m->whole + r * stride, m->scale + r, m->zero + r);
    }
}

// Channel pairs (i, i + D/2) of a head, turned by the angle of their position (Su et al. 2021, section 3.4).
static void rotate(float *head, int64_t width, const float *cos, const float *sin) {
    for (int64_t i = 0; i < width / 2; i++) {
        const float a = head[i], b = head[i + width / 2];
        head[i] = a * cos[i] - b * sin[i];
        head[i + width / 2] = a * sin[i] + b * cos[i];
    }
}

// Put keys and values of each row where its text stays.
static void remember(const Model *m, const Block *b, const Rows *rows) {
    const int64_t width = m->n_embd / m->n_head, padded = up(width, CHANNELS);
#pragma omp for schedule(static) collapse(2)
    for (int64_t r = 0; r < rows->count; r++)
        for (int64_t h = 0; h < m->n_head; h++) {
            float *q = m->wide + r * 3 * m->n_embd + h * width, *k = q + m->n_embd, *v = k + m->n_embd;
            if (m->cos) {
                const float *cos = m->cos + rows->positions[r] * (width / 2), *sin = m->sin + rows->positions[r] * (width / 2);
                rotate(q, width, cos, sin), rotate(k, width, cos, sin);
            }
            const int64_t text = (rows->slots[r] * m->n_head + h) * m->capacity, token = rows->positions[r];
            int8_t *keys = b->keys + (text + token) * padded;
            int8_t *values = b->values + (text + token / 2 * 2) * padded + token % 2;
            fetch(keys + m->capacity * padded, padded), fetch(values + m->capacity * padded, 2 * padded); // of the next head
            int32_t whole[width];
            b->key_scales[text + token] = round_to(127, k, width, whole);
            for (int64_t i = 0; i < width; i++) keys[i] = whole[i];
            b->value_scales[text + token] = round_to(127, v, width, whole);
            for (int64_t i = 0; i < width; i++) values[i * 2] = whole[i];
        }
}

// One head of one row looks at the `seen` tokens of its text. Query and weights are rounded to 16 bits.
static void look(const Model *m, const Block *b, int64_t text, int64_t next, int64_t seen, const float *q, float *scores, float *out) {
    const int64_t width = m->n_embd / m->n_head, padded = up(width, CHANNELS);
    const int8_t *keys = b->keys + text * padded, *values = b->values + text * padded;
    const float *key_scales = b->key_scales + text, *value_scales = b->value_scales + text;

    int32_t whole[padded];
    int16_t query[padded];
    memset(whole, 0, sizeof(whole));
    const __m512 q_scale = _mm512_set1_ps(round_to(16383, q, width, whole) / sqrtf(width));
    for (int64_t i = 0; i < padded; i += LANES) store_shorts(query + i, _mm512_loadu_si512(whole + i));
    __m512 largest = _mm512_set1_ps(-INFINITY);
    for (int64_t s = 0; s < seen; s += LANES) {
        fetch(b->keys + (next + s) * padded, LANES * padded);
        fetch(b->key_scales + next + s, 64);
        __m512i sums[LANES];
#pragma GCC unroll 16
        for (int t = 0; t < LANES; t++) sums[t] = _mm512_setzero_si512();
        for (int64_t i = 0; i < padded; i += CHANNELS) {
            const __m512i part = _mm512_loadu_si512(query + i);
#pragma GCC unroll 16
            for (int t = 0; t < LANES; t++) sums[t] = _mm512_dpwssd_epi32(sums[t], part, shorts(keys + (s + t) * padded + i));
        }
        const __mmask16 there = seen - s < LANES ? (1 << (seen - s)) - 1 : 0xffff;
        const __m512 score = _mm512_mul_ps(_mm512_cvtepi32_ps(totals(sums)), _mm512_mul_ps(q_scale, _mm512_loadu_ps(key_scales + s)));
        _mm512_storeu_ps(scores + s, _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), there, score));
        largest = _mm512_mask_max_ps(largest, there, largest, score);
    }

    const __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(largest));
    __m512 total = _mm512_setzero_ps(), weights = total, heaviest = total;
    for (int64_t s = 0; s < seen; s += LANES) {
        const __m512 share = exponential(_mm512_sub_ps(_mm512_loadu_ps(scores + s), top));
        const __m512 weight = _mm512_mul_ps(share, _mm512_loadu_ps(value_scales + s));
        total = _mm512_add_ps(total, share);
        weights = _mm512_add_ps(weights, weight);
        heaviest = _mm512_max_ps(heaviest, weight);
        _mm512_storeu_ps(scores + s, weight);
        fetch(b->value_scales + next + s, 64);
    }
    // As fine as 16 bits allow, and as a sum of so many times 127 stays within 32.
    const float fine = fminf(32767 / _mm512_reduce_max_ps(heaviest), 16000000 / _mm512_reduce_add_ps(weights));
    int16_t *shares = (int16_t *)scores; // they take the scores' place, from its beginning
    for (int64_t s = 0; s < seen; s += LANES)
        store_shorts(shares + s, _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(scores + s), _mm512_set1_ps(fine))));
    const __m512 scale = _mm512_set1_ps(1 / (fine * _mm512_reduce_add_ps(total)));
    for (int64_t i = 0; i < padded; i += CHANNELS) {
        __m512i sums[4]; // pairs of tokens by turns, so that no sum waits for the one before
        for (int t = 0; t < 4; t++) sums[t] = _mm512_setzero_si512();
        for (int64_t s = 0; s < seen; s += 4) {
            if (s % LANES == 0) fetch(b->values + (next + s) * padded + i * LANES, LANES * CHANNELS);
            for (int t = 0; t < 4; t++) {
                int32_t pair;
                memcpy(&pair, shares + s + t / 2 * 2, sizeof(pair));
                const __m512i value = shorts(values + (s + t / 2 * 2) * padded + 2 * (i + t % 2 * LANES));
                sums[t] = _mm512_dpwssd_epi32(sums[t], _mm512_set1_epi32(pair), value);
            }
        }
        for (int t = 0; t < 2 && i + t * LANES < width; t++) {
            const int64_t left = width - i - t * LANES;
            const __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(sums[t], sums[t + 2])), scale);
            _mm512_mask_storeu_ps(out + i + t * LANES, left < LANES ? (1 << left) - 1 : 0xffff, y);
        }
    }
}

static void attend(const Model *m, const Block *b, const Rows *rows, float *scores) {
    const int64_t width = m->n_embd / m->n_head;
#pragma omp for schedule(static) collapse(2)
    for (int64_t h = 0; h < m->n_head; h++)
        for (int64_t r = 0; r < rows->count; r++) {
            const int64_t next = r + 1 < rows->count ? r + 1 : r;
            look(m, b, (rows->slots[r] * m->n_head + h) * m->capacity, (rows->slots[next] * m->n_head + h) * m->capacity,
                 rows->positions[r] + 1, m->wide + r * 3 * m->n_embd + h * width, scores, m->mixed + r * m->n_embd + h * width);
        }
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
    float *scores = m->scores + omp_get_thread_num() * m->capacity;
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
    if (m->pre_norm) {
#pragma omp for schedule(static)
        for (int64_t r = 0; r < n; r++) normalize(&m->final_norm, x + r * width, width, x + r * width);
    }
}

// Tokens -> hidden states [count][C], after the last norm.
void read_tokens(const Model *m, int64_t count, const int64_t *tokens, const int64_t *slots, const int64_t *positions, float *x) {
#pragma omp parallel num_threads(m->threads)
    for (int64_t at = 0; at < count; at += ROWS_AT_ONCE) {
        const Rows rows = {count - at < ROWS_AT_ONCE ? count - at : ROWS_AT_ONCE, tokens + at, slots + at, positions + at};
        embed(m, &rows, x + at * m->n_embd);
        run_blocks(m, &rows, x + at * m->n_embd);
    }
}

// hidden [count][C] -> logits [count][V].
void score_tokens(const Model *m, int64_t count, float *hidden, float *logits) {
#pragma omp parallel num_threads(m->threads)
    for (int64_t at = 0; at < count; at += ROWS_AT_ONCE) {
        const int64_t rows = count - at < ROWS_AT_ONCE ? count - at : ROWS_AT_ONCE;
        take(m, NULL, hidden + at * m->n_embd, rows, m->n_embd, 0);
        linear(&m->head, m, rows, WRITE, logits + at * m->head.out);
    }
}
