// Dropout: each number is zero, or larger. Which, a hash of its place and of the call's seed decides, so the backward pass asks again
// instead of remembering. dropout.py says more.

#include <stdint.h>
#include <string.h>

enum { DRAWN_AT_ONCE = 1024, TOO_FEW_TO_SHARE = 1 << 15 };

// 16 random bits for each of the numbers from `first` on: two of a hash (the last part of MurmurHash3).
static inline void draw(uint16_t *bits, uint32_t first, uint64_t seed) {
    uint32_t hash[DRAWN_AT_ONCE / 2];
    for (uint32_t i = 0; i < DRAWN_AT_ONCE / 2; i++) {
        uint32_t x = ((first / 2 + i) ^ (uint32_t)(seed >> 32)) * 0x9e3779b1u + (uint32_t)seed;
        x ^= x >> 16, x *= 0x85ebca6bu, x ^= x >> 13, x *= 0xc2b2ae35u;
        hash[i] = x ^ x >> 16;
    }
    memcpy(bits, hash, sizeof hash);
}

static inline float of_bf16(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float y;
    memcpy(&y, &bits, sizeof y);
    return y;
}

static inline uint16_t to_bf16(float x) { // to the nearest, ties to even
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

static inline __attribute__((always_inline)) void drop(const void *in, void *out, int64_t count, uint32_t threshold, float scale, uint64_t seed, int is_bf16) {
#pragma omp parallel for schedule(static) if (count > TOO_FEW_TO_SHARE)
    for (int64_t start = 0; start < count; start += DRAWN_AT_ONCE) {
        uint16_t bits[DRAWN_AT_ONCE];
        draw(bits, start, seed);
        int64_t size = count - start < DRAWN_AT_ONCE ? count - start : DRAWN_AT_ONCE;
        if (is_bf16) {
            const uint16_t *x = (const uint16_t *)in + start;
            uint16_t *y = (uint16_t *)out + start;
            for (int64_t i = 0; i < size; i++) y[i] = bits[i] >= threshold ? to_bf16(of_bf16(x[i]) * scale) : 0;
        } else {
            const float *x = (const float *)in + start;
            float *y = (float *)out + start;
            for (int64_t i = 0; i < size; i++) y[i] = bits[i] >= threshold ? x[i] * scale : 0;
        }
    }
}

// p as a threshold of 65,536
void drop_bf16(const void *in, void *out, int64_t count, uint32_t threshold, float scale, uint64_t seed) { drop(in, out, count, threshold, scale, seed, 1); }
void drop_float(const void *in, void *out, int64_t count, uint32_t threshold, float scale, uint64_t seed) { drop(in, out, count, threshold, scale, seed, 0); }
