/* What hbat asks of cuBLASLt, computed plainly and in double precision by the host: for the stand-in driver beside it. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID = 7, F32 = 0, BF16 = 14 };

typedef struct { int compute, scale, transposed[2]; } Description;
typedef struct { int type, batch; uint64_t rows, columns; int64_t leading, stride; } Layout;

void stand_in_log(const char *line);

int cublasLtCreate(void **handle) { return *handle = malloc(16), OK; }
int cublasLtDestroy(void *handle) { return free(handle), OK; }
const char *cublasLtGetStatusName(int status) { return status ? "CUBLAS_STATUS_INVALID_VALUE" : "CUBLAS_STATUS_SUCCESS"; }

int cublasLtMatmulDescCreate(void **out, int compute, int scale) {
    Description *made = calloc(1, sizeof *made);
    *made = (Description){compute, scale, {0, 0}};
    return *out = made, OK;
}
int cublasLtMatmulDescDestroy(void *description) { return free(description), OK; }
int cublasLtMatmulDescSetAttribute(void *description, int attribute, const void *value, size_t size) {
    if (size != 4 || attribute < 3 || attribute > 4) return INVALID;
    return ((Description *)description)->transposed[attribute - 3] = *(const int *)value, OK;
}

int cublasLtMatrixLayoutCreate(void **out, int type, uint64_t rows, uint64_t columns, int64_t leading) {
    Layout *made = calloc(1, sizeof *made);
    *made = (Layout){type, 1, rows, columns, leading, 0};
    return *out = made, leading >= (int64_t)rows ? OK : INVALID;
}
int cublasLtMatrixLayoutDestroy(void *layout) { return free(layout), OK; }
int cublasLtMatrixLayoutSetAttribute(void *layout, int attribute, const void *value, size_t size) {
    if (attribute == 5 && size == 4) return ((Layout *)layout)->batch = *(const int *)value, OK;
    if (attribute == 6 && size == 8) return ((Layout *)layout)->stride = *(const int64_t *)value, OK;
    return INVALID;
}

int cublasLtMatmulPreferenceCreate(void **out) { return *out = malloc(16), OK; }
int cublasLtMatmulPreferenceDestroy(void *preference) { return free(preference), OK; }
int cublasLtMatmulPreferenceSetAttribute(void *preference, int attribute, const void *value, size_t size) {
    if (attribute == 1) return size == 8 ? OK : INVALID;
    if (attribute == 3 || (attribute >= 5 && attribute <= 8)) return size == 4 ? OK : INVALID;
    return INVALID;
}

typedef struct { uint64_t algorithm[8]; size_t workspace; int state; float waves; int reserved[4]; } Heuristic;

int cublasLtMatmulAlgoGetHeuristic(void *handle, void *description, void *a, void *b, void *c, void *d, void *preference, int wanted,
                                   Heuristic *found, int *count) {
    memset(found, 0, sizeof *found);
    return *count = 1, OK;
}

static double element(const char *at, const Layout *of, int batch, uint64_t i, uint64_t j) {
    int64_t index = batch * of->stride + (int64_t)(i + j * of->leading);
    if (of->type == F32) return ((const float *)at)[index];
    uint32_t bits = (uint32_t)((const uint16_t *)at)[index] << 16;
    float value;
    return memcpy(&value, &bits, 4), value;
}

static void put(char *at, const Layout *of, int batch, uint64_t i, uint64_t j, float value) {
    int64_t index = batch * of->stride + (int64_t)(i + j * of->leading);
    if (of->type == F32) {
        ((float *)at)[index] = value;
        return;
    }
    uint32_t bits;
    memcpy(&bits, &value, 4);
    ((uint16_t *)at)[index] = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

int cublasLtMatmul(void *handle, const Description *how, const float *alpha, const char *a, const Layout *of_a, const char *b,
                   const Layout *of_b, const float *beta, const char *c, const Layout *of_c, char *d, const Layout *of_d,
                   const void *algorithm, void *workspace, size_t workspace_bytes, void *stream) {
    uint64_t m = how->transposed[0] ? of_a->columns : of_a->rows, depth = how->transposed[0] ? of_a->rows : of_a->columns;
    uint64_t n = how->transposed[1] ? of_b->rows : of_b->columns, other = how->transposed[1] ? of_b->columns : of_b->rows;
    char line[160];
    snprintf(line, sizeof line, "product %dx %lux%lux%lu, transposed %d %d, types %d %d", of_d->batch, m, depth, n, how->transposed[0],
             how->transposed[1], of_a->type, of_d->type);
    stand_in_log(line);
    if (depth != other || m != of_d->rows || n != of_d->columns || how->scale != F32 || *alpha != 1) return INVALID;
    if ((*beta != 0 && *beta != 1) || of_c != of_d) return INVALID;
    if (of_a->batch != of_d->batch || of_b->batch != of_d->batch || !workspace || !stream) return INVALID;
    if (getenv("STAND_IN_COPY")) return OK;
    for (int batch = 0; batch < of_d->batch; batch++)
        for (uint64_t j = 0; j < n; j++)
            for (uint64_t i = 0; i < m; i++) {
                double sum = *beta ? element(c, of_c, batch, i, j) : 0;
                for (uint64_t k = 0; k < depth; k++)
                    sum += element(a, of_a, batch, how->transposed[0] ? k : i, how->transposed[0] ? i : k) *
                           element(b, of_b, batch, how->transposed[1] ? j : k, how->transposed[1] ? k : j);
                put(d, of_d, batch, i, j, (float)sum);
            }
    return OK;
}
