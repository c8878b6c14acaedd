/* Writes down when every kernel and copy of a program ran on a card, by NVIDIA's CUPTI; tests/gpu/kernel_times.py adds them up.
 *
 *   cc -O2 -fPIC -shared -I<cuda>/include -o libkernels.so tests/gpu/kernel_times.c -L<cuda>/lib -lcupti
 *   CUDA_INJECTION64_PATH=./libkernels.so KERNELS=kernels.tsv gpu_parts profile cuda 7b 8
 *
 * Lines of nanoseconds since the first, how long it took, bytes (0 for a kernel), and its name.
 */
#include <cupti.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { BUFFER = 8 << 20 };

static FILE *out;
static uint64_t first;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void line(uint64_t start, uint64_t end, uint64_t bytes, const char *name) {
    if (!first) first = start;
    fprintf(out, "%lld\t%llu\t%llu\t%s\n", (long long)(start - first), (unsigned long long)(end - start), (unsigned long long)bytes, name);
}

static void CUPTIAPI give(uint8_t **buffer, size_t *size, size_t *most) {
    *size = BUFFER;
    *most = 0;
    *buffer = aligned_alloc(8, BUFFER);
}

static void CUPTIAPI take(CUcontext context, uint32_t stream, uint8_t *buffer, size_t size, size_t valid) {
    CUpti_Activity *record = NULL;
    pthread_mutex_lock(&lock);
    while (cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS) {
        if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
            CUpti_ActivityKernel10 *kernel = (CUpti_ActivityKernel10 *)record;
            line(kernel->start, kernel->end, 0, kernel->name);
        } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
            static const char *const kinds[] = {"copy", "copy to the card", "copy from the card", "", "", "", "", "", "copy on the card"};
            CUpti_ActivityMemcpy6 *copy = (CUpti_ActivityMemcpy6 *)record;
            line(copy->start, copy->end, copy->bytes, copy->copyKind < 9 ? kinds[copy->copyKind] : "copy");
        } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMSET) {
            CUpti_ActivityMemset4 *set = (CUpti_ActivityMemset4 *)record;
            line(set->start, set->end, set->bytes, "memset");
        }
    }
    fflush(out);
    pthread_mutex_unlock(&lock);
    free(buffer);
}

static void finish(void) { cuptiActivityFlushAll(1); }

/* The driver calls it before its first work. */
int InitializeInjection(void) {
    const char *path = getenv("KERNELS");
    out = fopen(path ? path : "kernels.tsv", "w");
    if (!out) return 0;
    cuptiActivityRegisterCallbacks(give, take);
    cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL);
    cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMCPY);
    cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMSET);
    atexit(finish);
    return 1;
}
