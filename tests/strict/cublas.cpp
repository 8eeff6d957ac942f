// What cublas.py calls, on the host: the same names, arguments and layouts (columns first), one plain loop.
#include <cstddef>

template <typename T>
static int gemm(void* handle, int turn_a, int turn_b, int m, int n, int k, const T* alpha, const T* a, int lda,
                const T* b, int ldb, const T* beta, T* c, int ldc) {
    if (!handle || lda < (turn_a ? k : m) || ldb < (turn_b ? n : k) || ldc < m) return 7;  // as cuBLAS: invalid value
    for (int j = 0; j < n; j++)
        for (int i = 0; i < m; i++) {
            T sum = 0;
            for (int l = 0; l < k; l++)
                sum += (turn_a ? a[l + (size_t) i * lda] : a[i + (size_t) l * lda]) *
                       (turn_b ? b[j + (size_t) l * ldb] : b[l + (size_t) j * ldb]);
            T old = *beta ? *beta * c[i + (size_t) j * ldc] : 0;
            c[i + (size_t) j * ldc] = *alpha * sum + old;
        }
    return 0;
}

extern "C" {
int made = 0, math_mode = -1;
int cublasCreate_v2(void** handle) { *handle = &made; made++; return 0; }
int cublasSetStream_v2(void* handle, void* stream) { return handle && stream ? 0 : 7; }
int cublasSetWorkspace_v2(void* handle, void* workspace, size_t size) { return handle && workspace && size ? 0 : 7; }
int cublasSetMathMode(void* handle, int mode) { math_mode = mode; return handle ? 0 : 7; }
int cublasSgemm_v2(void* h, int ta, int tb, int m, int n, int k, const float* alpha, const float* a, int lda,
                   const float* b, int ldb, const float* beta, float* c, int ldc) {
    return gemm(h, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
int cublasDgemm_v2(void* h, int ta, int tb, int m, int n, int k, const double* alpha, const double* a, int lda,
                   const double* b, int ldb, const double* beta, double* c, int ldc) {
    return gemm(h, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
}
