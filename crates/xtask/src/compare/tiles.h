// For compilers whose tile macros do not say that they read memory (GCC 12): stores of the tile configuration were lost
// and the peer died in its first product of tiles. Included before every file of the peer.
#ifdef __AMX_TILE__
#include <immintrin.h>
#undef _tile_loadd
#define tile_loadd_(dst, base, stride) \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #dst ::"r"((const void *)(base)), "r"((long)(stride)) : "memory")
#define _tile_loadd(dst, base, stride) tile_loadd_(dst, base, stride)
#define _tile_loadconfig(p) __asm__ volatile("ldtilecfg %0" ::"m"(*(const char(*)[64])(p)) : "memory")
#endif
