// AdamW whose running means take eight bits a number: one pass over weights, gradients and means. adamw_8bit.py says what and why.
//
// Numbers go in blocks of 256. A code is the top of a float32, its exponent and three bits of its mantissa, counted so that the highest
// code has the exponent of the block's largest number: reading one is a shift, and writing one adds random bits below the cut and shifts
// back, which is right on average. A block is computed by itself, in one order: the number of threads changes nothing.

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

enum { LANES = 16, BLOCK = 256, VECTORS = BLOCK / LANES, NUMBERS_PER_SUM = 65536 };
enum { CUT = 20, SMALLEST_EXPONENT = 33 }; // bits that a code leaves out; below this exponent codes would not be normal numbers

typedef struct {
    float rate, kept, beta1, share, beta2, square_share, square_scale, epsilon; // kept: of a weight, after its decay
    uint32_t seed;
} Update;

typedef struct {
    uint8_t mean, square; // of the block's largest number, as float32 writes it
} Exponents;

static inline __m512i whole(int32_t x) { return _mm512_set1_epi32(x); }
static inline __m512 number(float x) { return _mm512_set1_ps(x); }
static inline __m512i widened(const uint8_t *codes) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)codes)); }
static inline __m512 of_bf16(const uint16_t *x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)x)), 16));
}

// What a code lacks to be the top of its number: 127 codes of a mean (the eighth bit is its sign), 255 of a square.
static inline int32_t mean_base(uint8_t exponent) { return 8 * exponent - 120; }
static inline int32_t square_base(uint8_t exponent) { return 8 * exponent - 248; }

// Of the largest number, even if it is rounded up.
static inline uint8_t highest_exponent(__m512i bits) {
    int32_t exponent = (_mm512_reduce_max_epi32(bits) + (1 << CUT) - 1) >> 23;
    return exponent < SMALLEST_EXPONENT ? SMALLEST_EXPONENT : exponent;
}

// 32 random bits for each lane of a block of a step (the last part of MurmurHash3), and those that follow (Numerical Recipes, 7.1).
static inline __m512i first_random(uint32_t block, uint32_t seed) {
    __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __m512i x = _mm512_add_epi32(_mm512_mullo_epi32(_mm512_add_epi32(whole(block * LANES), lane), whole(0x9e3779b1)), whole(seed));
    x = _mm512_mullo_epi32(_mm512_xor_si512(x, _mm512_srli_epi32(x, 16)), whole(0x85ebca6b));
    x = _mm512_mullo_epi32(_mm512_xor_si512(x, _mm512_srli_epi32(x, 13)), whole(0xc2b2ae35));
    return _mm512_xor_si512(x, _mm512_srli_epi32(x, 16));
}
static inline __m512i next_random(__m512i x) { return _mm512_add_epi32(_mm512_mullo_epi32(x, whole(1664525)), whole(1013904223)); }

// The top of numbers >= 0, rounded up with the chance of what is cut off.
static inline __m512i rounded_top(__m512i bits, __m512i random) {
    return _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_srli_epi32(random, 32 - CUT)), CUT);
}

// Gradients are float32 or bf16; the other pointer is NULL.
static inline __attribute__((always_inline)) void update_block(float *weight, const float *gradient, const uint16_t *rounded, uint8_t *mean_code,
                                                               uint8_t *square_code, Exponents *exponents, uint32_t block, const Update *u) {
    const __m512i size = whole(INT32_MAX), code_size = whole(127);
    __m512i mean[VECTORS], square[VECTORS], largest_mean = whole(0), largest_square = whole(0);
    __m512i base = whole(mean_base(exponents->mean)), base2 = whole(square_base(exponents->square));
    for (int i = 0; i < VECTORS; i++) {
        __m512 g = rounded ? of_bf16(rounded + i * LANES) : _mm512_loadu_ps(gradient + i * LANES);
        __m512i code = widened(mean_code + i * LANES), code2 = widened(square_code + i * LANES);
        __m512i top = _mm512_slli_epi32(_mm512_add_epi32(_mm512_and_si512(code, code_size), base), CUT);
        __m512i sign = _mm512_slli_epi32(_mm512_srli_epi32(code, 7), 31);
        __m512 m = _mm512_castsi512_ps(_mm512_maskz_or_epi32(_mm512_test_epi32_mask(code, code_size), top, sign)); // code 0 is zero
        __m512 v = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(code2, base2), CUT));
        m = _mm512_fmadd_ps(m, number(u->beta1), _mm512_mul_ps(g, number(u->share)));
        v = _mm512_fmadd_ps(v, number(u->beta2), _mm512_mul_ps(_mm512_mul_ps(g, g), number(u->square_share)));
        __m512 width = _mm512_fmadd_ps(_mm512_sqrt_ps(v), number(u->square_scale), number(u->epsilon));
        __m512 step = _mm512_div_ps(_mm512_mul_ps(m, number(u->rate)), width);
        _mm512_storeu_ps(weight + i * LANES, _mm512_fmsub_ps(_mm512_loadu_ps(weight + i * LANES), number(u->kept), step));
        mean[i] = _mm512_castps_si512(m), square[i] = _mm512_castps_si512(v);
        largest_mean = _mm512_max_epi32(largest_mean, _mm512_and_si512(mean[i], size));
        largest_square = _mm512_max_epi32(largest_square, square[i]);
    }
    *exponents = (Exponents){highest_exponent(largest_mean), highest_exponent(largest_square)};
    base = whole(mean_base(exponents->mean)), base2 = whole(square_base(exponents->square));
    __m512i lowest = _mm512_slli_epi32(_mm512_add_epi32(base, whole(1)), CUT); // the smallest mean that has a code: a smaller one becomes it, or zero
    __m512 chance = _mm512_mul_ps(_mm512_castsi512_ps(lowest), number(1.0f / (1 << CUT)));
    __m512i random = first_random(block, u->seed);
    for (int i = 0; i < VECTORS; i++) {
        __m512i bits = _mm512_and_si512(mean[i], size), another = next_random(random);
        __m512i code = _mm512_min_epi32(_mm512_sub_epi32(rounded_top(bits, random), base), code_size);
        __mmask16 below = _mm512_cmplt_epi32_mask(bits, lowest);
        if (below) {
            __m512 drawn = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_srli_epi32(random, 32 - CUT)), chance);
            __mmask16 up = _mm512_cmp_ps_mask(_mm512_castsi512_ps(bits), drawn, _CMP_GT_OQ);
            code = _mm512_mask_blend_epi32(below, code, _mm512_maskz_set1_epi32(up, 1));
        }
        __m512i sign = _mm512_slli_epi32(_mm512_srli_epi32(mean[i], 31), 7);
        _mm_storeu_si128((void *)(mean_code + i * LANES), _mm512_cvtepi32_epi8(_mm512_or_si512(code, sign)));
        __m512i code2 = _mm512_max_epi32(_mm512_sub_epi32(rounded_top(square[i], another), base2), whole(1)); // never 0: it divides
        _mm_storeu_si128((void *)(square_code + i * LANES), _mm512_cvtusepi32_epi8(code2)); // at most 255
        random = next_random(another);
    }
}

// What is left behind the last whole block, in room for a whole one.
static void update_rest(float *weight, const float *gradient, const uint16_t *rounded, uint8_t *mean_code, uint8_t *square_code,
                        Exponents *exponents, uint32_t block, int count, const Update *u) {
    float wide[BLOCK] = {0}, slope[BLOCK] = {0};
    uint16_t half[BLOCK] = {0};
    uint8_t means[BLOCK] = {0}, squares[BLOCK] = {0};
    memcpy(wide, weight, count * sizeof *weight), memcpy(means, mean_code, count), memcpy(squares, square_code, count);
    if (rounded) memcpy(half, rounded, count * sizeof *rounded);
    else memcpy(slope, gradient, count * sizeof *gradient);
    update_block(wide, slope, rounded ? half : NULL, means, squares, exponents, block, u);
    memcpy(weight, wide, count * sizeof *weight), memcpy(mean_code, means, count), memcpy(square_code, squares, count);
}

void update(float *weight, const float *gradient, const uint16_t *rounded, uint8_t *mean_code, uint8_t *square_code, Exponents *exponents,
            int64_t count, const Update *u) {
    int64_t blocks = count / BLOCK, end = blocks * BLOCK;
#pragma omp parallel for schedule(static)
    for (int64_t block = 0; block < blocks; block++) {
        int64_t at = block * BLOCK;
        if (rounded) update_block(weight + at, NULL, rounded + at, mean_code + at, square_code + at, exponents + block, block, u);
        else update_block(weight + at, gradient + at, NULL, mean_code + at, square_code + at, exponents + block, block, u);
    }
    if (end < count)
        update_rest(weight + end, gradient ? gradient + end : NULL, rounded ? rounded + end : NULL, mean_code + end, square_code + end,
                    exponents + blocks, blocks, count - end, u);
}

// The sum of squares of each 65,536 numbers, which are float32 or bf16.
void sum_squares(const float *precise, const uint16_t *rounded, int64_t count, double *sums) {
#pragma omp parallel for schedule(static)
    for (int64_t start = 0; start < count; start += NUMBERS_PER_SUM) {
        int64_t stop = start + NUMBERS_PER_SUM < count ? start + NUMBERS_PER_SUM : count, at = start;
        double sum = 0;
        for (; at + BLOCK <= stop; at += BLOCK) {
            __m512 part[4] = {number(0), number(0), number(0), number(0)};
            for (int i = 0; i < VECTORS; i++) {
                __m512 x = rounded ? of_bf16(rounded + at + i * LANES) : _mm512_loadu_ps(precise + at + i * LANES);
                part[i % 4] = _mm512_fmadd_ps(x, x, part[i % 4]);
            }
            sum += _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(part[0], part[1]), _mm512_add_ps(part[2], part[3])));
        }
        for (; at < stop; at++) {
            uint32_t bits = rounded ? (uint32_t)rounded[at] << 16 : 0;
            float x;
            memcpy(&x, rounded ? (void *)&bits : (void *)(precise + at), sizeof x);
            sum += x * x;
        }
        sums[start / NUMBERS_PER_SUM] = sum;
    }
}
