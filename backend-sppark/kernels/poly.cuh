// Polynomial operations: reductions and scans in chunks.
//
// A thread takes a chunk of consecutive elements and leaves one value per chunk; the values of all chunks are the same problem again, a
// chunk's length shorter, and its solution is what each chunk starts from:
//
// - p(x) is the evaluation at x^K of the polynomial of the chunks' values at x;
// - the quotient of p by X − x has, at the end of chunk t, coefficient t of the quotient of that polynomial by X − x^K;
// - an exclusive running product or sum of chunks starts each chunk;
// - the inverse of a chunk's product gives the inverses in it (Montgomery's trick).
#pragma once

#include "field.cuh"

#if PH_DEVICE_BUILD
namespace parhelion_cuda {
#else
namespace parhelion_emulation {
#endif

constexpr uint32_t CHUNK = 32;
constexpr uint32_t INVERSION_CHUNK = 8;
constexpr uint32_t TERMS = 48;

inline uint64_t chunks(uint64_t n, uint32_t chunk) { return (n + chunk - 1) / chunk; }

PH_KERNEL multiply_kernel(fr* a, const fr* b, uint64_t n) {
    for (uint64_t i = thread_index(); i < n; i += thread_count()) a[i] = a[i] * b[i];
}

struct terms {
    const fr* values[TERMS];
    uint64_t len[TERMS];
    fr factor[TERMS];
};

PH_KERNEL combine_kernel(terms t, uint32_t count, fr* out, uint64_t n, bool add) {
    for (uint64_t i = thread_index(); i < n; i += thread_count()) {
        fr sum = add ? out[i] : fr(fr::nil());
        PH_LOOP for (uint32_t k = 0; k < count; k++)
            if (i < t.len[k]) sum = sum + t.factor[k] * t.values[k][i];
        out[i] = sum;
    }
}

inline void combine(context& c, const ph_term* list, uint64_t count, fr* out, uint64_t n) {
    for (uint64_t first = 0; first == 0 || first < count; first += TERMS) {
        terms t;
        std::memset((void*)&t, 0, sizeof t);
        const uint32_t some = (uint32_t)(count - first < TERMS ? count - first : TERMS);
        for (uint32_t k = 0; k < some; k++) {
            const ph_term& term = list[first + k];
            t.values[k] = (const fr*)term.address;
            t.len[k] = term.len;
            std::memcpy((void*)&t.factor[k], &term.factor, sizeof(fr));
        }
        c.launch("linear combination", combine_kernel, n, t, some, out, n, first != 0);
    }
}

// Values of chunks: out[q · per + t] = Σ_j p_q[t · K + j] · x_q^j.
PH_KERNEL horner_kernel(terms q, uint32_t count, fr* out, uint64_t per) {
    for (uint64_t i = thread_index(); i < count * per; i += thread_count()) {
        const uint32_t query = (uint32_t)(i / per);
        const uint64_t len = q.len[query], low = (i % per) * CHUNK;
        const uint64_t high = low + CHUNK < len ? low + CHUNK : len;
        const fr* p = q.values[query];
        const fr x = q.factor[query];
        fr sum = fr::nil();
        PH_LOOP for (uint64_t j = high; j > low; j--) sum = sum * x + p[j - 1];
        out[i] = sum;
    }
}

inline void horner(context& c, const ph_query* list, uint64_t count, ph_limbs* results) {
    for (uint64_t first = 0; first < count; first += TERMS) {
        const uint32_t some = (uint32_t)(count - first < TERMS ? count - first : TERMS);
        terms t;
        std::memset((void*)&t, 0, sizeof t);
        uint64_t longest = 1;
        for (uint32_t k = 0; k < some; k++) {
            const ph_query& query = list[first + k];
            t.values[k] = (const fr*)query.address;
            t.len[k] = query.len;
            std::memcpy((void*)&t.factor[k], &query.x, sizeof(fr));
            longest = longest < query.len ? query.len : longest;
        }
        block previous;
        for (;;) {
            const uint64_t per = chunks(longest, CHUNK);
            block values(c, some * per * sizeof(fr), "values of chunks");
            c.launch("evaluation", horner_kernel, some * per, t, some, values.as<fr>(), per);
            for (uint32_t k = 0; k < some; k++) {
                t.values[k] = values.as<fr>() + k * per;
                t.len[k] = per;
                t.factor[k] = power(t.factor[k], CHUNK);
            }
            previous = std::move(values);
            longest = per;
            if (per == 1) break;
        }
        c.download(results + first, previous.address, some * sizeof(fr));
    }
}

PH_KERNEL divide_kernel(fr* p, uint64_t n, fr x, const fr* carries) {
    const uint64_t count = (n + CHUNK - 1) / CHUNK;
    for (uint64_t t = thread_index(); t < count; t += thread_count()) {
        const uint64_t low = t * CHUNK, high = low + CHUNK < n ? low + CHUNK : n;
        fr carry = carries ? carries[t] : fr(fr::nil());
        PH_LOOP for (uint64_t i = high; i > low; i--) {
            const fr value = p[i - 1];
            p[i - 1] = carry;
            carry = carry * x + value;
        }
    }
}

// All memory that a recursion over chunks needs, so that nothing has been written when there is none.
inline uint64_t levels(uint64_t n, uint32_t chunk, uint64_t stop) {
    uint64_t total = 0;
    while (n > stop) total += n = chunks(n, chunk);
    return total;
}

inline void divide_with(context& c, fr* p, uint64_t n, const fr& x, fr* scratch) {
    fr* carries = nullptr;
    if (n > CHUNK) {
        const uint64_t count = chunks(n, CHUNK);
        terms t;
        std::memset((void*)&t, 0, sizeof t);
        t.values[0] = p;
        t.len[0] = n;
        t.factor[0] = x;
        c.launch("division", horner_kernel, count, t, 1u, scratch, count);
        divide_with(c, scratch, count, power(x, CHUNK), scratch + count);
        carries = scratch;
    }
    c.launch("division", divide_kernel, chunks(n, CHUNK), p, n, x, (const fr*)carries);
}

inline void divide(context& c, fr* p, uint64_t n, const fr& x) {
    block scratch(c, levels(n, CHUNK, CHUNK) * sizeof(fr), "division");
    divide_with(c, p, n, x, scratch.as<fr>());
}

struct product {
    typedef fr value;
    PH_HD static fr nothing() { return fr::unit(); }
    PH_HD static fr join(const fr& a, const fr& b) { return a * b; }
};
struct sum {
    typedef uint32_t value;
    PH_HD static uint32_t nothing() { return 0; }
    PH_HD static uint32_t join(uint32_t a, uint32_t b) { return a + b; }
};

template <class M> PH_KERNEL fold_kernel(const typename M::value* values, uint64_t n, typename M::value* out) {
    const uint64_t count = (n + CHUNK - 1) / CHUNK;
    for (uint64_t t = thread_index(); t < count; t += thread_count()) {
        const uint64_t low = t * CHUNK, high = low + CHUNK < n ? low + CHUNK : n;
        typename M::value all = M::nothing();
        PH_LOOP for (uint64_t i = low; i < high; i++) all = M::join(all, values[i]);
        out[t] = all;
    }
}

template <class M>
PH_KERNEL scan_kernel(typename M::value* values, uint64_t n, typename M::value first, const typename M::value* starts,
                      typename M::value* total) {
    const uint64_t count = (n + CHUNK - 1) / CHUNK;
    for (uint64_t t = thread_index(); t < count; t += thread_count()) {
        const uint64_t low = t * CHUNK, high = low + CHUNK < n ? low + CHUNK : n;
        typename M::value all = starts ? starts[t] : first;
        PH_LOOP for (uint64_t i = low; i < high; i++) {
            const typename M::value value = values[i];
            values[i] = all;
            all = M::join(all, value);
        }
        if (t == count - 1) *total = all;
    }
}

// The exclusive scan, in place; `total` is where the whole goes. `scratch` has room for `levels(n, CHUNK, CHUNK)` values.
template <class M>
void scan(context& c, typename M::value* values, uint64_t n, typename M::value first, typename M::value* scratch,
          typename M::value* total) {
    typename M::value* starts = nullptr;
    if (n > CHUNK) {
        const uint64_t count = chunks(n, CHUNK);
        c.launch("scan", fold_kernel<M>, count, (const typename M::value*)values, n, scratch);
        scan<M>(c, scratch, count, first, scratch + count, total);
        starts = scratch;
    }
    c.launch("scan", scan_kernel<M>, chunks(n, CHUNK), values, n, first, (const typename M::value*)starts, total);
}

PH_KERNEL invert_kernel(fr* values, uint64_t n) {
    for (uint64_t i = thread_index(); i < n; i += thread_count()) values[i] = inverse(values[i]);
}

PH_KERNEL invert_fold_kernel(const fr* values, uint64_t n, fr* out) {
    const uint64_t count = (n + INVERSION_CHUNK - 1) / INVERSION_CHUNK;
    for (uint64_t t = thread_index(); t < count; t += thread_count()) {
        fr all = fr::unit();
        PH_LOOP for (uint64_t i = t * INVERSION_CHUNK; i < (t + 1) * INVERSION_CHUNK && i < n; i++) {
            const fr value = values[i];
            if (!value.is_nil()) all = all * value;
        }
        out[t] = all;
    }
}

PH_KERNEL invert_spread_kernel(fr* values, uint64_t n, const fr* inverses) {
    const uint64_t count = (n + INVERSION_CHUNK - 1) / INVERSION_CHUNK;
    for (uint64_t t = thread_index(); t < count; t += thread_count()) {
        fr before[INVERSION_CHUNK];
        fr all = fr::unit();
        PH_UNROLL for (uint32_t j = 0; j < INVERSION_CHUNK; j++) {
            const uint64_t i = t * INVERSION_CHUNK + j;
            before[j] = all;
            if (i < n) {
                const fr value = values[i];
                if (!value.is_nil()) all = all * value;
            }
        }
        fr rest = inverses[t];
        PH_UNROLL for (uint32_t k = 0; k < INVERSION_CHUNK; k++) {
            const uint32_t j = INVERSION_CHUNK - 1 - k;
            const uint64_t i = t * INVERSION_CHUNK + j;
            if (i < n) {
                const fr value = values[i];
                if (!value.is_nil()) {
                    values[i] = rest * before[j];
                    rest = rest * value;
                }
            }
        }
    }
}

// Below this many elements each is inverted by itself.
constexpr uint64_t INVERTED_DIRECTLY = 2048;

inline void invert_with(context& c, fr* values, uint64_t n, fr* scratch) {
    if (n <= INVERTED_DIRECTLY) {
        c.launch("inversion", invert_kernel, n, values, n);
        return;
    }
    const uint64_t count = chunks(n, INVERSION_CHUNK);
    c.launch("inversion", invert_fold_kernel, count, (const fr*)values, n, scratch);
    invert_with(c, scratch, count, scratch + count);
    c.launch("inversion", invert_spread_kernel, count, values, n, (const fr*)scratch);
}

inline void invert(context& c, fr* values, uint64_t n) {
    block scratch(c, levels(n, INVERSION_CHUNK, INVERTED_DIRECTLY) * sizeof(fr), "inversion");
    invert_with(c, values, n, scratch.as<fr>());
}

inline void running_product(context& c, fr* values, uint64_t n, const fr& first, ph_limbs* total) {
    block scratch(c, (levels(n, CHUNK, CHUNK) + 1) * sizeof(fr), "running product");
    fr* all = scratch.as<fr>();
    scan<product>(c, values, n, first, all + 1, all);
    c.download(total, all, sizeof(fr));
}

}  // namespace
