#include "levels.h"

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BF16__)

namespace {
constexpr int kLanes = 16;   // floats in a vector
constexpr int kVectors = 2;  // vectors of queries worked on together
constexpr int kTile = 8;     // keys whose scores are held in registers
constexpr int kTiles = 8;    // tiles worked on together
constexpr int kChunk = 8;    // channels whose sums are held in registers
}  // namespace

#include "kernels_half.h"

const Level level_avx512bf16 = {"avx512bf16", kernels, half_kernels};

#else

const Level level_avx512bf16 = {"avx512bf16", nullptr, nullptr};

#endif
