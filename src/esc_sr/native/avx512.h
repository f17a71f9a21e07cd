// What levels with AVX-512 have in common.
#pragma once

namespace {
constexpr int kLanes = 16;   // floats in a vector
constexpr int kVectors = 2;  // vectors of queries worked on together
constexpr int kTile = 8;     // keys whose scores are held in registers
constexpr int kTiles = 8;    // tiles worked on together
constexpr int kChunk = 8;    // channels whose sums are held in registers
}  // namespace
