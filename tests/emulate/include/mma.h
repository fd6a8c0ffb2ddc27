/* nvcuda::wmma for 16-bit factors and float sums, 16x16x16, 32x8x16 and 8x32x16.
 *
 * Which element of a matrix a fragment's x[] holds is nobody's business, and here no simple one: code that guesses
 * goes wrong. As the manual promises, fragments of one type agree. */
#ifndef EMULATE_MMA_H
#define EMULATE_MMA_H

#include "cuda_bf16.h"
#include "cuda_fp16.h"

#include <type_traits>

namespace nvcuda
{
namespace wmma
{

struct matrix_a {
};
struct matrix_b {
};
struct accumulator {
};
struct row_major {
};
struct col_major {
};
enum layout_t { mem_row_major, mem_col_major };

template <typename Use, int M, int N, int K> struct fragment_shape;
template <int M, int N, int K> struct fragment_shape<matrix_a, M, N, K> {
    static constexpr int ROWS = M, COLUMNS = K;
};
template <int M, int N, int K> struct fragment_shape<matrix_b, M, N, K> {
    static constexpr int ROWS = K, COLUMNS = N;
};
template <int M, int N, int K> struct fragment_shape<accumulator, M, N, K> {
    static constexpr int ROWS = M, COLUMNS = N;
};

template <typename Use, int M, int N, int K, typename T, typename Layout = void> struct fragment {
    using element_type = T;
    static constexpr int ROWS = fragment_shape<Use, M, N, K>::ROWS, COLUMNS = fragment_shape<Use, M, N, K>::COLUMNS;
    static constexpr int num_elements = ROWS * COLUMNS / emulate::WARP;
    static_assert(M * N == 256 && K == 16, "a shape of the 16-bit types");
    T x[num_elements];
};

/* The element's place in the matrix, row after row, that x[i] of a lane holds. 37 is odd, so all of them are hit. */
template <int ELEMENTS> static inline int fragment_place(int lane, int i)
{
    return ((i * emulate::WARP + (lane ^ i)) * 37 + 11) % (ELEMENTS * emulate::WARP);
}

/* One instruction of a warp: what each lane brings. */
template <typename Fragment, typename Pointer> struct transfer {
    Fragment *fragment;
    Pointer pointer;
    unsigned stride;
    bool is_row_major;
};

template <typename Fragment, typename Pointer> static void execute_transfer(emulate::Meeting &meeting)
{
    using Operands = transfer<Fragment, Pointer>;
    const Operands &first = *static_cast<Operands *>(meeting.operands[0]);
    for (int lane = 0; lane < emulate::WARP; lane++) {
        const Operands &own = *static_cast<Operands *>(meeting.operands[lane]);
        if (own.pointer != first.pointer || own.stride != first.stride)
            emulate::fail("%s: lanes disagree about the address or the stride", meeting.instruction);
        for (int i = 0; i < Fragment::num_elements; i++) {
            const int place = fragment_place<Fragment::num_elements>(lane, i);
            const size_t row = (size_t)(place / Fragment::COLUMNS), column = (size_t)(place % Fragment::COLUMNS);
            const size_t at = first.is_row_major ? row * first.stride + column : column * first.stride + row;
            if constexpr (std::is_const_v<std::remove_pointer_t<Pointer>>)
                own.fragment->x[i] = first.pointer[at];
            else
                first.pointer[at] = own.fragment->x[i];
        }
    }
}

template <typename Fragment, typename Pointer>
static inline void move_matrix(const char *instruction, Fragment *fragment, Pointer pointer, unsigned stride,
                               bool is_row_major)
{
    transfer<Fragment, Pointer> operands = {fragment, pointer, stride, is_row_major};
    if (reinterpret_cast<uintptr_t>(pointer) % 32 != 0)
        emulate::fail("%s: %p is not a multiple of 32 bytes", instruction, (const void *)pointer);
    if (stride * sizeof(*pointer) % 16 != 0)
        emulate::fail("%s: a stride of %u elements is not a multiple of 16 bytes", instruction, stride);
    emulate::warp_meet(emulate::FULL_MASK, instruction, &operands, execute_transfer<Fragment, Pointer>);
}

template <typename Use, int M, int N, int K, typename T, typename Layout>
static inline void load_matrix_sync(fragment<Use, M, N, K, T, Layout> &to, const T *from, unsigned stride)
{
    static_assert(!std::is_same_v<Use, accumulator>, "an accumulator's layout is an argument");
    move_matrix("wmma::load_matrix_sync", &to, from, stride, std::is_same_v<Layout, row_major>);
}

template <int M, int N, int K, typename T>
static inline void load_matrix_sync(fragment<accumulator, M, N, K, T> &to, const T *from, unsigned stride,
                                    layout_t layout)
{
    move_matrix("wmma::load_matrix_sync", &to, from, stride, layout == mem_row_major);
}

template <int M, int N, int K, typename T>
static inline void store_matrix_sync(T *to, const fragment<accumulator, M, N, K, T> &from, unsigned stride,
                                     layout_t layout)
{
    move_matrix("wmma::store_matrix_sync", &from, to, stride, layout == mem_row_major);
}

template <typename Use, int M, int N, int K, typename T, typename Layout>
static inline void fill_fragment(fragment<Use, M, N, K, T, Layout> &to, T value)
{
    for (T &x : to.x)
        x = value;
}

template <typename A, typename B, typename C> struct product {
    C *d;
    const A *a;
    const B *b;
    const C *c;
};

template <typename Fragment> static void gather(const Fragment &from, int lane, float *to)
{
    for (int i = 0; i < Fragment::num_elements; i++)
        to[fragment_place<Fragment::num_elements>(lane, i)] = (float)from.x[i];
}

template <typename A, typename B, typename C> static void execute_product(emulate::Meeting &meeting)
{
    float a[A::ROWS * A::COLUMNS], b[B::ROWS * B::COLUMNS], d[C::ROWS * C::COLUMNS];
    for (int lane = 0; lane < emulate::WARP; lane++) {
        const product<A, B, C> &own = *static_cast<product<A, B, C> *>(meeting.operands[lane]);
        gather(*own.a, lane, a);
        gather(*own.b, lane, b);
        gather(*own.c, lane, d);
    }
    for (int row = 0; row < C::ROWS; row++) {
        for (int k = 0; k < A::COLUMNS; k++) {
            for (int column = 0; column < C::COLUMNS; column++)
                d[row * C::COLUMNS + column] += a[row * A::COLUMNS + k] * b[k * B::COLUMNS + column];
        }
    }
    for (int lane = 0; lane < emulate::WARP; lane++) {
        const product<A, B, C> &own = *static_cast<product<A, B, C> *>(meeting.operands[lane]);
        for (int i = 0; i < C::num_elements; i++)
            own.d->x[i] = d[fragment_place<C::num_elements>(lane, i)];
    }
}

template <int M, int N, int K, typename T, typename LayoutA, typename LayoutB>
static inline void mma_sync(fragment<accumulator, M, N, K, float> &d, const fragment<matrix_a, M, N, K, T, LayoutA> &a,
                            const fragment<matrix_b, M, N, K, T, LayoutB> &b,
                            const fragment<accumulator, M, N, K, float> &c)
{
    using A = fragment<matrix_a, M, N, K, T, LayoutA>;
    using B = fragment<matrix_b, M, N, K, T, LayoutB>;
    using C = fragment<accumulator, M, N, K, float>;
    product<A, B, C> operands = {&d, &a, &b, &c};
    emulate::warp_meet(emulate::FULL_MASK, "wmma::mma_sync", &operands, execute_product<A, B, C>);
}

} // namespace wmma
} // namespace nvcuda

#endif
