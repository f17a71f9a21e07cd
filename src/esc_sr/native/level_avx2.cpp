#include "levels.h"

#if defined(__AVX2__) && defined(__FMA__)

namespace {
constexpr int kLanes = 8;    // floats in a vector
constexpr int kVectors = 3;  // vectors of queries worked on together
constexpr int kTile = 4;     // keys whose scores are held in registers
constexpr int kTiles = 16;   // tiles worked on together
constexpr int kChunk = 4;    // channels whose sums are held in registers
}  // namespace

#include "kernels.h"

const Level level_avx2 = {"avx2", kernels, nullptr};

#else

const Level level_avx2 = {"avx2", nullptr, nullptr};

#endif
