// A GPT in float32: the pass of pass.h, for any CPU and a compiler that knows vectors (gcc, clang).
//
// One token waits for memory, so a weight is read once for all rows, and asked for before its turn; many wait for products, so a tile of
// outputs keeps its sums in registers.
//
//     weight        [out / 32][in][32], padded by zeros to whole tiles, as `bias`
//     keys, values  [slots][H][capacity][D]

#include "pass.h"

#ifdef __AVX512F__
enum { ROWS = 12 }; // and two registers of outputs: 24 sums in 24 of 32 registers
#else
enum { ROWS = 6 }; // 12 of 16
#endif
enum {
    BLOCK = 32,
    COLUMNS = 2 * VECTOR,
    AHEAD = 16, // inputs, or 2 KB of weights: that long before its turn memory is asked for
};

static void fetch(const float *memory) { __builtin_prefetch(memory, 0, 2); }

static void begin_products(void) {}
static void end_products(void) {}

static void take(const Model *m, const Norm *norm, float *x, int64_t rows, int64_t n, int back) {
    const int64_t stride = row_stride(n);
#pragma omp for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        float *from = x + r * n, *to = (float *)m->inputs + r * stride;
        if (norm) normalize(norm, from, n, to);
        else memcpy(to, from, n * sizeof(float));
        if (back) memcpy(from, to, n * sizeof(float));
    }
}

// x * w of `rows` rows and COLUMNS outputs. `rows` is a constant where it is called, so that the sums stay in registers.
static inline __attribute__((always_inline)) void multiply(
    const int rows, const float *weight, int64_t inputs, const float *x, int64_t stride, Floats out[ROWS][2]) {
    Floats sums[ROWS][2];
    for (int r = 0; r < rows; r++) sums[r][0] = sums[r][1] = (Floats){0};
    for (int64_t k = 0; k < inputs; k++) {
        const float *both = weight + k * BLOCK;
        const Floats first = *(const Floats *)both, second = *(const Floats *)(both + VECTOR);
        fetch(both + AHEAD * BLOCK), fetch(both + AHEAD * BLOCK + VECTOR);
        for (int r = 0; r < rows; r++) {
            sums[r][0] += x[r * stride + k] * first;
            sums[r][1] += x[r * stride + k] * second;
        }
    }
    for (int r = 0; r < rows; r++) out[r][0] = sums[r][0], out[r][1] = sums[r][1];
}

// Up to VECTOR floats; a whole vector in one instruction.
static void copy(void *to, const void *from, int64_t count) {
    if (count == VECTOR) *(Floats *)to = *(const Floats *)from;
    else memcpy(to, from, count * sizeof(float));
}

// Outputs [column, column + COLUMNS) of rows from `first` on, up to ROWS.
static void tile(int64_t rows, const Linear *l, const Model *m, int64_t first, int64_t column, enum Then then, float *out) {
    const int64_t stride = row_stride(l->in), outputs = l->out;
    const float *weight = (const float *)l->weight + column / BLOCK * BLOCK * l->in + column % BLOCK;
    const float *x = (const float *)m->inputs + first * stride;
    Floats sums[ROWS][2];
    switch (rows) {
        case 1: multiply(1, weight, l->in, x, stride, sums); break;
        case 2: multiply(2, weight, l->in, x, stride, sums); break;
        case 3: multiply(3, weight, l->in, x, stride, sums); break;
        case 4: multiply(4, weight, l->in, x, stride, sums); break;
        case 5: multiply(5, weight, l->in, x, stride, sums); break;
#ifdef __AVX512F__
        case 6: multiply(6, weight, l->in, x, stride, sums); break;
        case 7: multiply(7, weight, l->in, x, stride, sums); break;
        case 8: multiply(8, weight, l->in, x, stride, sums); break;
        case 9: multiply(9, weight, l->in, x, stride, sums); break;
        case 10: multiply(10, weight, l->in, x, stride, sums); break;
        case 11: multiply(11, weight, l->in, x, stride, sums); break;
#endif
        default: multiply(ROWS, weight, l->in, x, stride, sums);
    }
    for (int r = 0; r < ROWS && r < rows; r++)
        for (int c = 0; c < 2 && column + c * VECTOR < outputs; c++) {
            const int64_t at = column + c * VECTOR, count = outputs - at < VECTOR ? outputs - at : VECTOR;
            float *to = out + (first + r) * outputs + at;
            Floats y = sums[r][c] + *(const Floats *)(l->bias + at), before = {0};
            if (then == GELU) y = gelu(y);
            if (then == ADD) copy(&before, to, count);
            y += before;
            copy(to, &y, count);
        }
}

static void linear(const Linear *l, const Model *m, int64_t rows, enum Then then, float *out) {
#pragma omp for schedule(static)
    for (int64_t column = 0; column < l->out; column += COLUMNS)
        for (int64_t row = 0; row < rows; row += ROWS) tile(rows - row, l, m, row, column, then, out);
}

static void remember(const Model *m, const Block *b, const Rows *rows) {
    const int64_t width = m->n_embd / m->n_head;
#pragma omp for schedule(static) collapse(2)
    for (int64_t r = 0; r < rows->count; r++)
        for (int64_t h = 0; h < m->n_head; h++) {
            float *query = m->wide + r * 3 * m->n_embd + h * width;
            const int64_t at = ((rows->slots[r] * m->n_head + h) * m->capacity + rows->positions[r]) * width;
            rotate_both(m, rows, r, query);
            memcpy((float *)b->keys + at, query + m->n_embd, width * sizeof(float));
            memcpy((float *)b->values + at, query + 2 * m->n_embd, width * sizeof(float));
        }
}

// One head of one row looks at the `seen` tokens of its text: keys, values [seen][width]. `scores` has room for 16 more.
static void look(int64_t width, int64_t seen, const float *q, const float *keys, const float *values, float *scores, float *out) {
    const float scale = 1 / sqrtf(width);
    float largest = -INFINITY, sum = 0;
    for (int64_t s = 0; s < seen; s++) {
        float score = 0;
#pragma omp simd reduction(+ : score)
        for (int64_t i = 0; i < width; i++) score += q[i] * keys[s * width + i];
        scores[s] = score * scale;
        largest = fmaxf(largest, scores[s]);
    }
    for (int64_t s = 0; s < seen; s += VECTOR) {
        Floats *some = (Floats *)(scores + s);
        *some = exponential(*some - largest);
    }
#pragma omp simd reduction(+ : sum)
    for (int64_t s = 0; s < seen; s++) sum += scores[s];
    memset(out, 0, width * sizeof(float));
    int64_t s = 0;
    for (; s + 4 <= seen; s += 4) {
        const float *a = values + s * width, *b = a + width, *c = b + width, *d = c + width;
#pragma omp simd
        for (int64_t i = 0; i < width; i++)
            out[i] += scores[s] * a[i] + scores[s + 1] * b[i] + scores[s + 2] * c[i] + scores[s + 3] * d[i];
    }
    for (; s < seen; s++)
        for (int64_t i = 0; i < width; i++) out[i] += scores[s] * values[s * width + i];
    for (int64_t i = 0; i < width; i++) out[i] /= sum;
}

static void attend(const Model *m, const Block *b, const Rows *rows, float *scores) {
    const int64_t width = m->n_embd / m->n_head;
#pragma omp for schedule(static) collapse(2)
    for (int64_t r = 0; r < rows->count; r++)
        for (int64_t h = 0; h < m->n_head; h++) {
            const int64_t text = (rows->slots[r] * m->n_head + h) * m->capacity * width;
            look(width, rows->positions[r] + 1, m->wide + r * 3 * m->n_embd + h * width, (const float *)b->keys + text,
                 (const float *)b->values + text, scores, m->mixed + r * m->n_embd + h * width);
        }
}
