#include "levels.h"

#if defined(__AVX512F__) && defined(__AVX512DQ__)

#include "avx512.h"
#include "kernels.h"

const Level level_avx512 = {"avx512", kernels, nullptr};

#else

const Level level_avx512 = {"avx512", nullptr, nullptr};

#endif
