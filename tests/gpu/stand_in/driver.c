/* A CUDA driver that has a card's memory and none of its arithmetic.
 *
 * Allocations are host memory that costs nothing until it is written; copies copy; a kernel is loaded and launched, and nothing happens.
 * What a program asks of a card can so be seen without one: how much memory it holds, which kernels it makes, how long it takes to ask, and
 * what it does when memory runs out or the card is gone. Numbers that kernels would have written are what lay there before: zeros, if
 * STAND_IN_COPY=1 leaves all copies out.
 *
 *   STAND_IN_MEMORY   bytes of the card (an H100's)
 *   STAND_IN_FREE     bytes that others have left of it (all)
 *   STAND_IN_COPY     larger copies are left out, and what would come back is zeros (none)
 *   STAND_IN_KERNELS  a folder that takes the kernels' PTX
 *   STAND_IN_FAULT    after so many launches the card is gone (never)
 *   STAND_IN_BEHIND   an event has happened so many launches after it was recorded (0)
 *   STAND_IN_LOG      a file that takes a line for every allocation, launch, and call that orders work (none)
 */
#define _GNU_SOURCE
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef int CUresult;
typedef int CUdevice;
typedef void *Handle;
typedef uint64_t CUdeviceptr;

enum { OK = 0, INVALID = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NOT_READY = 600, ILLEGAL_ADDRESS = 700 };
enum { EVENTS = 1 << 16 };

static atomic_long launches, modules, held, peak, to_card, from_card, handles = 4096;
static long recorded[EVENTS];
static FILE *log_file;

static long setting(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

static long memory(void) { return setting("STAND_IN_MEMORY", 85520809984L); }
static long left(void) { return setting("STAND_IN_FREE", memory()); }

/* As after a fault: every call on the context says so. */
static CUresult state(void) {
    static long fault = -1;
    if (fault < 0) fault = setting("STAND_IN_FAULT", 0);
    return fault && launches >= fault ? ILLEGAL_ADDRESS : OK;
}

void stand_in_log(const char *line) {
    if (log_file) fprintf(log_file, "%s\n", line);
}

static void summary(void) {
    if (log_file) fclose(log_file);
    if (!peak) return;
    fprintf(stderr, "stand-in card: %ld launches of %ld kernels, peak %ld bytes, %ld bytes copied there, %ld back\n", (long)launches,
            (long)modules, (long)peak, (long)to_card, (long)from_card);
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("STAND_IN_LOG");
    if (path && !log_file) log_file = fopen(path, "w");
    atexit(summary);
}

static CUresult fresh(Handle *out) {
    *out = (Handle)(uintptr_t)atomic_fetch_add(&handles, 16);
    return state();
}

/* The device. */

static int initialized;

CUresult cuInit(unsigned flags) { return initialized = 1, OK; }
CUresult cuDriverGetVersion(int *version) { return *version = 13000, OK; }
CUresult cuDeviceGetCount(int *count) { return *count = 1, OK; }
CUresult cuDeviceGet(CUdevice *device, int index) { return *device = 0, !initialized ? NOT_INITIALIZED : index ? INVALID : OK; }
CUresult cuDeviceGetName(char *name, int length, CUdevice device) { return snprintf(name, length, "NVIDIA H100 stand-in"), OK; }
CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) { return *bytes = memory(), OK; }
CUresult cuDeviceGetUuid(char *uuid, CUdevice device) { return memset(uuid, 7, 16), OK; }
CUresult cuDeviceGetUuid_v2(char *uuid, CUdevice device) { return memset(uuid, 7, 16), OK; }
CUresult cuDeviceGetLuid(char *luid, unsigned *mask, CUdevice device) { return memset(luid, 7, 8), *mask = 1, OK; }
CUresult cuDeviceGetPCIBusId(char *id, int length, CUdevice device) { return snprintf(id, length, "0000:00:00.0"), OK; }

CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
    switch (attribute) {
    case 1: *value = 1024; break;             /* threads per block */
    case 2: case 3: *value = 1024; break;     /* block's x, y */
    case 4: *value = 64; break;               /* block's z */
    case 5: *value = 2147483647; break;       /* grid's x */
    case 6: case 7: *value = 65535; break;    /* grid's y, z */
    case 8: *value = 49152; break;            /* shared memory per block */
    case 10: *value = 32; break;              /* warp */
    case 12: *value = 65536; break;           /* registers per block */
    case 13: *value = 1980000; break;         /* kHz */
    case 16: *value = 132; break;             /* multiprocessors */
    case 36: *value = 2619000; break;         /* kHz of memory */
    case 37: *value = 5120; break;            /* memory's bits */
    case 38: *value = 52428800; break;        /* L2 */
    case 39: *value = 2048; break;            /* threads per multiprocessor */
    case 75: *value = 9; break;               /* compute capability */
    case 76: *value = 0; break;
    case 81: *value = 233472; break;          /* shared memory per multiprocessor */
    case 97: *value = 232448; break;          /* and what a block may have of it */
    case 115: *value = 1; break;              /* memory pools */
    default: *value = 0;
    }
    return OK;
}

CUresult cuDevicePrimaryCtxRetain(Handle *context, CUdevice device) { return *context = (Handle)16, OK; }
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) { return OK; }
CUresult cuCtxSetCurrent(Handle context) { return OK; }
CUresult cuCtxGetCurrent(Handle *context) { return *context = (Handle)16, OK; }
CUresult cuCtxSynchronize(void) { return state(); }
CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) { return *least = 0, *greatest = -5, OK; }
CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *all) { return *all = memory(), *free_bytes = left() - held, OK; }
CUresult cuGetErrorName(CUresult error, const char **name) {
    *name = error == OUT_OF_MEMORY     ? "CUDA_ERROR_OUT_OF_MEMORY"
            : error == ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS"
                                       : "CUDA_ERROR_INVALID_VALUE";
    return OK;
}
CUresult cuGetErrorString(CUresult error, const char **text) {
    *text = error == OUT_OF_MEMORY     ? "out of memory"
            : error == ILLEGAL_ADDRESS ? "an illegal memory access was encountered"
                                       : "invalid argument";
    return OK;
}

/* Memory: a page in front of each allocation holds its size. */

enum { PAGE = 4096 };

static CUresult refuse(size_t bytes) {
    held -= bytes;
    return OUT_OF_MEMORY;
}

CUresult cuMemAlloc_v2(CUdeviceptr *out, size_t bytes) {
    if (state()) return state();
    long now = atomic_fetch_add(&held, bytes) + bytes;
    if (now > left()) return refuse(bytes);
    for (long seen = peak; now > seen && !atomic_compare_exchange_weak(&peak, &seen, now);) {}
    if (log_file) fprintf(log_file, "%zu bytes allocated, %ld held\n", bytes, now);
    char *at = mmap(NULL, bytes + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return refuse(bytes);
    *(size_t *)at = bytes;
    *out = (CUdeviceptr)(at + PAGE);
    return OK;
}

CUresult cuMemFree_v2(CUdeviceptr at) {
    char *page = (char *)at - PAGE;
    size_t bytes = *(size_t *)page;
    long now = atomic_fetch_sub(&held, bytes) - bytes;
    if (log_file) fprintf(log_file, "%zu bytes given back, %ld held\n", bytes, now);
    return munmap(page, bytes + PAGE), state();
}

CUresult cuMemAllocAsync(CUdeviceptr *out, size_t bytes, Handle stream) { return cuMemAlloc_v2(out, bytes); }
CUresult cuMemFreeAsync(CUdeviceptr at, Handle stream) { return cuMemFree_v2(at); }
CUresult cuMemAllocHost_v2(void **out, size_t bytes) {
    *out = aligned_alloc(PAGE, (bytes + PAGE - 1) / PAGE * PAGE);
    return *out ? OK : OUT_OF_MEMORY;
}
CUresult cuMemFreeHost(void *at) { return free(at), OK; }

static CUresult copy(void *to, const void *from, size_t bytes, atomic_long *count) {
    *count += bytes;
    long most = setting("STAND_IN_COPY", LONG_MAX);
    if (state() == OK && bytes <= (size_t)most) memcpy(to, from, bytes);
    else if (state() == OK && count == &from_card) memset(to, 0, bytes);
    return state();
}

static atomic_long within;
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, Handle stream) {
    return copy((void *)to, from, bytes, &to_card);
}
CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, Handle stream) {
    return copy(to, (void *)from, bytes, &from_card);
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, Handle stream) {
    return copy((void *)to, (void *)from, bytes, &within);
}

/* CUDA_MEMCPY2D: from, to, and what; a memory type of 1 is the host's. */
typedef struct {
    size_t x, y;
    unsigned type;
    void *host;
    CUdeviceptr device;
    Handle array;
    size_t pitch;
} Side;
typedef struct {
    Side from, to;
    size_t width, height;
} Copy2D;

static char *start(const Side *side) {
    return (side->type == 1 ? (char *)side->host : (char *)side->device) + side->y * side->pitch + side->x;
}

CUresult cuMemcpy2DAsync_v2(const Copy2D *how, Handle stream) {
    atomic_long *count = how->from.type == 1 ? &to_card : how->to.type == 1 ? &from_card : &within;
    for (size_t row = 0; row < how->height; row++)
        if (copy(start(&how->to) + row * how->to.pitch, start(&how->from) + row * how->from.pitch, how->width, count)) break;
    return state();
}

/* Order: all is done at once, and takes as long as Burn wants a measurement to take. */

CUresult cuStreamCreate(Handle *stream, unsigned flags) { return fresh(stream); }
CUresult cuStreamCreateWithPriority(Handle *stream, unsigned flags, int priority) { return fresh(stream); }
CUresult cuStreamDestroy_v2(Handle stream) { return OK; }
CUresult cuStreamSynchronize(Handle stream) { return state(); }
CUresult cuStreamQuery(Handle stream) { return state(); }
CUresult cuEventCreate(Handle *event, unsigned flags) { return fresh(event); }
CUresult cuEventDestroy_v2(Handle event) { return OK; }
CUresult cuEventSynchronize(Handle event) { return state(); }
CUresult cuEventQuery(Handle event) {
    static long behind = -1;
    if (behind < 0) behind = setting("STAND_IN_BEHIND", 0);
    return launches - recorded[(uintptr_t)event % EVENTS] < behind ? NOT_READY : state();
}
CUresult cuEventElapsedTime(float *milliseconds, Handle from, Handle to) { return *milliseconds = 20, state(); }
CUresult cuEventElapsedTime_v2(float *milliseconds, Handle from, Handle to) { return *milliseconds = 20, state(); }
CUresult cuEventRecord(Handle event, Handle stream) {
    recorded[(uintptr_t)event % EVENTS] = launches;
    return stand_in_log("event recorded in a stream"), state();
}
CUresult cuStreamWaitEvent(Handle stream, Handle event, unsigned flags) { return stand_in_log("a stream waits"), state(); }
CUresult cuCtxRecordEvent(Handle context, Handle event) { return stand_in_log("event recorded in the context"), state(); }
CUresult cuCtxWaitEvent(Handle context, Handle event) { return stand_in_log("the context waits"), state(); }

/* Kernels. */

CUresult cuModuleLoadData(Handle *module, const void *image) {
    const char *folder = getenv("STAND_IN_KERNELS");
    long number = atomic_fetch_add(&modules, 1);
    if (folder) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%ld.ptx", folder, number);
        FILE *file = fopen(path, "w");
        if (file) fputs(image, file), fclose(file);
    }
    return fresh(module);
}

CUresult cuModuleUnload(Handle module) { return OK; }
CUresult cuModuleGetFunction(Handle *function, Handle module, const char *name) { return *function = strdup(name), state(); }
CUresult cuFuncSetAttribute(Handle function, int attribute, int value) { return OK; }
CUresult cuFuncGetAttribute(int *value, int attribute, Handle function) { return *value = attribute == 0 ? 1024 : 0, OK; }

static CUresult launch(const char *name) {
    launches++;
    stand_in_log(name);
    return state();
}

CUresult cuLaunchKernel(Handle function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                        Handle stream, void **arguments, void **extra) {
    return launch(function);
}

CUresult cuLaunchKernelEx(const void *how, Handle function, void **arguments, void **extra) { return launch(function); }
CUresult cuTensorMapEncodeTiled(void *map, ...) { return memset(map, 0, 128), OK; }
CUresult cuTensorMapEncodeIm2col(void *map, ...) { return memset(map, 0, 128), OK; }
