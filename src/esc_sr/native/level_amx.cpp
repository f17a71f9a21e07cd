#include "levels.h"

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BF16__) && defined(__AMX_BF16__)

#include "avx512.h"
#include "kernels_half.h"

const Level level_amx = {"amx", kernels, half_kernels};

#else

const Level level_amx = {"amx", nullptr, nullptr};

#endif
