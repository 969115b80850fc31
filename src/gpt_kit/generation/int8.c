// A GPT in int8: the pass of pass.h where every product is of whole numbers.
//
// out = (sum of x * w) * x's scale * w's scale. Weights are rounded once, each output channel by its own scale; the rows of x at each
// call, each by its own range (Dettmers et al. 2022, section 3.1: vector-wise quantization). Keys and values are kept in int8, each head
// of each token by its own scale; what they are multiplied by is rounded to 16 bits. Norms, softmax, GELU and the residual stream are
// float32.
//
// One token waits for memory, so each weight is read once for all rows, and asked for before its turn; 32 wait for products, of which
// AVX-512 VNNI makes 64 in an instruction (each of 16 lanes adds four), and AMX 16,384. In memory a head of D has P = D rounded up to 32.
//
//     weight        [out / 16][in / 4][16][4], padded by zeros to whole tiles; `sum`, as x is moved by its zero point to be unsigned
//     keys          [slots][H][capacity][P]
//     values        [slots][H][capacity / 2][P][2]: pairs of tokens
//     their scales  [slots][H][capacity], a multiple of 16

#include "pass.h"

#include <immintrin.h>

static const float SMALLEST = 1e-12f; // a row of zeros has no scale

enum {
    LANES = 16,
    COLUMNS = 2 * LANES, // of a tile of outputs
    CHANNELS = 32,       // of int8 that 16 lanes hold as pairs of 16 bits
};

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

// Sums of x * w for outputs [column, column + 32) of up to ROWS rows: by AVX-512 or by AMX, which give the same whole numbers.
enum { FEW = 8, INPUTS = 64 }; // FEW: 16 sums in 16 of the 32 registers (with 24, gcc 12 spills)
#ifdef __AMX_INT8__
enum { ROWS = 2 * LANES };
#else
enum { ROWS = FEW };
#endif

// `rows` is a constant where it is called, so that the sums stay in registers.
static inline __attribute__((always_inline)) void multiply_rows(
    const int rows, const int8_t *weight, int64_t inputs, const uint8_t *x, int64_t stride, int32_t out[ROWS][COLUMNS]) {
    __m512i sums[FEW][2];
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

#ifdef __AMX_INT8__
static const struct {
    uint8_t palette, first_row, none[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} TILES = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

static void begin_products(void) { _tile_loadconfig(&TILES); } // by each thread

static void end_products(void) { _tile_release(); }

// A tile of AMX: 16 rows of x by 64 inputs, those by 16 outputs, or 16 x 16 sums. Rows behind the last are counted as well, and nobody
// looks at them.
static void multiply_tiles(
    int64_t rows, const int8_t *weight, int64_t inputs, const uint8_t *x, int64_t stride, int32_t out[ROWS][COLUMNS]) {
    const int8_t *other = weight + inputs * LANES, *next = weight + inputs * COLUMNS;
    const int two = rows > LANES;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t k = 0; k < inputs; k += INPUTS) {
        fetch(next + k * LANES, INPUTS * LANES), fetch(next + (inputs + k) * LANES, INPUTS * LANES);
        _tile_loadd(4, x + k, stride);
        _tile_loadd(6, weight + k * LANES, 64);
        _tile_loadd(7, other + k * LANES, 64);
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
        if (two) {
            _tile_loadd(5, x + LANES * stride + k, stride);
            _tile_dpbusd(2, 5, 6);
            _tile_dpbusd(3, 5, 7);
        }
    }
    _tile_stored(0, out[0], 4 * COLUMNS);
    _tile_stored(1, out[0] + LANES, 4 * COLUMNS);
    if (two) {
        _tile_stored(2, out[LANES], 4 * COLUMNS);
        _tile_stored(3, out[LANES] + LANES, 4 * COLUMNS);
    }
}
#else
static void begin_products(void) {}
static void end_products(void) {}
#endif

static void multiply(int64_t rows, const int8_t *weight, int64_t inputs, const uint8_t *x, int64_t stride, int32_t out[ROWS][COLUMNS]) {
#ifdef __AMX_INT8__
    if (rows > FEW) {
        multiply_tiles(rows, weight, inputs, x, stride, out);
        return;
    }
#endif
    switch (rows) {
        case 1: multiply_rows(1, weight, inputs, x, stride, out); break;
        case 2: multiply_rows(2, weight, inputs, x, stride, out); break;
        case 3: multiply_rows(3, weight, inputs, x, stride, out); break;
        case 4: multiply_rows(4, weight, inputs, x, stride, out); break;
        case 5: multiply_rows(5, weight, inputs, x, stride, out); break;
        case 6: multiply_rows(6, weight, inputs, x, stride, out); break;
        case 7: multiply_rows(7, weight, inputs, x, stride, out); break;
        default: multiply_rows(8, weight, inputs, x, stride, out);
    }
}

// And what becomes of the sums.
static void tile(int64_t rows, const Linear *l, const Model *m, int64_t first, int64_t column, enum Then then, float *out) {
    const int64_t stride = row_stride(l->in);
    const int8_t *weight = (const int8_t *)l->weight + column * l->in;
    const uint8_t *x = (uint8_t *)m->inputs + first * stride;
    int32_t sums[ROWS][COLUMNS] __attribute__((aligned(64)));
    const int64_t outputs = l->out, count = rows < ROWS ? rows : ROWS;
    if (then == WRITE) // logits are many megabytes, so their lines have to be fetched too
        for (int64_t r = 0; r < count; r++) {
            char *to = (char *)(out + (first + r) * outputs + column);
            __builtin_prefetch(to, 1), __builtin_prefetch(to + 64, 1), __builtin_prefetch(to + 127, 1);
        }
    multiply(count, weight, l->in, x, stride, sums);
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
            if (then == GELU) y = (__m512)gelu((Floats)y);
            if (then == ADD) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(there, to));
            _mm512_mask_storeu_ps(to, there, y);
        }
    }
}

static void linear(const Linear *l, const Model *m, int64_t rows, enum Then then, float *out) {
#pragma omp for schedule(static)
    for (int64_t column = 0; column < l->out; column += COLUMNS)
        for (int64_t row = 0; row < rows; row += ROWS) tile(rows - row, l, m, row, column, then, out);
}

static void take(const Model *m, const Norm *norm, float *x, int64_t rows, int64_t n, int back) {
    const int64_t stride = row_stride(n);
#pragma omp for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        float *from = x + r * n, *normed = back ? from : m->mixed + r * n;
        if (norm) normalize(norm, from, n, normed);
        quantize(norm ? normed : from, n, (uint8_t *)m->inputs + r * stride, m->scale + r, m->zero + r);
    }
}

static void remember(const Model *m, const Block *b, const Rows *rows) {
    const int64_t width = m->n_embd / m->n_head, padded = up(width, CHANNELS);
#pragma omp for schedule(static) collapse(2)
    for (int64_t r = 0; r < rows->count; r++)
        for (int64_t h = 0; h < m->n_head; h++) {
            float *q = m->wide + r * 3 * m->n_embd + h * width, *k = q + m->n_embd, *v = k + m->n_embd;
            rotate_both(m, rows, r, q);
            const int64_t text = (rows->slots[r] * m->n_head + h) * m->capacity, token = rows->positions[r];
            int8_t *keys = (int8_t *)b->keys + (text + token) * padded;
            int8_t *values = (int8_t *)b->values + (text + token / 2 * 2) * padded + token % 2;
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
    const int8_t *keys = (int8_t *)b->keys + text * padded, *values = (int8_t *)b->values + text * padded;
    const float *key_scales = b->key_scales + text, *value_scales = b->value_scales + text;

    int32_t whole[padded];
    int16_t query[padded];
    memset(whole, 0, sizeof(whole));
    const __m512 q_scale = _mm512_set1_ps(round_to(16383, q, width, whole) / sqrtf(width));
    for (int64_t i = 0; i < padded; i += LANES) store_shorts(query + i, _mm512_loadu_si512(whole + i));
    __m512 largest = _mm512_set1_ps(-INFINITY);
    for (int64_t s = 0; s < seen; s += LANES) {
        fetch((int8_t *)b->keys + (next + s) * padded, LANES * padded);
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
        const __m512 share = (__m512)exponential((Floats)_mm512_sub_ps(_mm512_loadu_ps(scores + s), top));
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
            if (s % LANES == 0) fetch((int8_t *)b->values + (next + s) * padded + i * LANES, LANES * CHANNELS);
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
