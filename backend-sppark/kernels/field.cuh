// The scalar field and the base field of BN254: elements in Montgomery form, R = 2^256, eight limbs of 32 bits, little-endian.
//
// Device code computes with sppark's `mont_t`; host code, and the emulation, with the portable class below. Both passes of the CUDA compiler
// see types of the same name, size and alignment, so that kernels take them as arguments.
#pragma once

#include "platform.cuh"

#if defined(__CUDA_ARCH__)
#include <ff/mont_t.cuh>
#endif

#if PH_DEVICE_BUILD
namespace parhelion_cuda {
#else
namespace parhelion_emulation {
#endif

#if PH_DEVICE_BUILD
// What `mont_t` wants to know: the modulus, R² and R modulo it, four times the modulus, and −1/modulus modulo 2^32.
namespace constants {
static __device__ __constant__ __align__(16) const uint32_t fr_modulus[8] = {0xf0000001, 0x43e1f593, 0x79b97091, 0x2833e848, 0x8181585d, 0xb85045b6, 0xe131a029, 0x30644e72};
static __device__ __constant__ __align__(16) const uint32_t fr_square[8] = {0xae216da7, 0x1bb8e645, 0xe35c59e3, 0x53fe3ab1, 0x53bb8085, 0x8c49833d, 0x7f4e44a5, 0x0216d0b1};
static __device__ __constant__ __align__(16) const uint32_t fr_one[8] = {0x4ffffffb, 0xac96341c, 0x9f60cd29, 0x36fc7695, 0x7879462e, 0x666ea36f, 0x9a07df2f, 0x0e0a77c1};
static __device__ __constant__ __align__(16) const uint32_t fr_shifted[8] = {0xc0000004, 0x0f87d64f, 0xe6e5c245, 0xa0cfa121, 0x06056174, 0xe14116da, 0x84c680a6, 0xc19139cb};
static __device__ __constant__ const uint32_t fr_inverse = 0xefffffff;
static __device__ __constant__ __align__(16) const uint32_t fq_modulus[8] = {0xd87cfd47, 0x3c208c16, 0x6871ca8d, 0x97816a91, 0x8181585d, 0xb85045b6, 0xe131a029, 0x30644e72};
static __device__ __constant__ __align__(16) const uint32_t fq_square[8] = {0x538afa89, 0xf32cfc5b, 0xd44501fb, 0xb5e71911, 0x0a417ff6, 0x47ab1eff, 0xcab8351f, 0x06d89f71};
static __device__ __constant__ __align__(16) const uint32_t fq_one[8] = {0xc58f0d9d, 0xd35d438d, 0xf5c70b3d, 0x0a78eb28, 0x7879462c, 0x666ea36f, 0x9a07df2f, 0x0e0a77c1};
static __device__ __constant__ __align__(16) const uint32_t fq_shifted[8] = {0x61f3f51c, 0xf082305b, 0xa1c72a34, 0x5e05aa45, 0x06056176, 0xe14116da, 0x84c680a6, 0xc19139cb};
static __device__ __constant__ const uint32_t fq_inverse = 0xe4866389;
}  // namespace constants
#endif

#if defined(__CUDA_ARCH__)

template <class M> struct element : M {
    PH_DEV element() {}
    PH_DEV element(const M& value) : M(value) {}
    PH_DEV static element nil() {
        element e;
        e.M::zero();
        return e;
    }
    PH_DEV static element unit() { return element(M::one()); }
    PH_DEV bool is_nil() const { return this->is_zero(); }
    PH_DEV element square() const {
        M value = *this;
        value.sqr();
        return element(value);
    }
    PH_DEV friend element operator+(const element& a, const element& b) { return element((const M&)a + (const M&)b); }
    PH_DEV friend element operator-(const element& a, const element& b) { return element((const M&)a - (const M&)b); }
    PH_DEV friend element operator*(const element& a, const element& b) { return element((const M&)a * (const M&)b); }
    PH_DEV friend element operator-(const element& a) { return element(-(const M&)a); }
    // Limbs of the value itself.
    PH_DEV void standard(uint32_t limbs[8]) const {
        M value = *this;
        value.from();
        PH_UNROLL for (int i = 0; i < 8; i++) limbs[i] = value[i];
    }
};

typedef mont_t<254, constants::fr_modulus, constants::fr_inverse, constants::fr_square, constants::fr_one, constants::fr_shifted> fr_device;
typedef mont_t<254, constants::fq_modulus, constants::fq_inverse, constants::fq_square, constants::fq_one, constants::fq_shifted> fq_device;

struct fr : element<fr_device> {
    using element::element;
    PH_DEV fr() {}
    PH_DEV fr(const element& e) : element(e) {}
};
struct fq : element<fq_device> {
    using element::element;
    PH_DEV fq() {}
    PH_DEV fq(const element& e) : element(e) {}
};

#else

struct fr_modulus {
    static constexpr uint64_t limb[4] = {0x43e1f593f0000001, 0x2833e84879b97091, 0xb85045b68181585d, 0x30644e72e131a029};
    static constexpr uint64_t one[4] = {0xac96341c4ffffffb, 0x36fc76959f60cd29, 0x666ea36f7879462e, 0x0e0a77c19a07df2f};
    static constexpr uint64_t inverse = 0xc2e1f593efffffff;
};
struct fq_modulus {
    static constexpr uint64_t limb[4] = {0x3c208c16d87cfd47, 0x97816a916871ca8d, 0xb85045b68181585d, 0x30644e72e131a029};
    static constexpr uint64_t one[4] = {0xd35d438dc58f0d9d, 0x0a78eb28f5c70b3d, 0x666ea36f7879462c, 0x0e0a77c19a07df2f};
    static constexpr uint64_t inverse = 0x87d20782e4866389;
};

template <class P> struct alignas(32) element {
    uint64_t limb[4];

    PH_HD static element nil() { return element{{0, 0, 0, 0}}; }
    PH_HD static element unit() { return element{{P::one[0], P::one[1], P::one[2], P::one[3]}}; }
    PH_HD bool is_nil() const { return (limb[0] | limb[1] | limb[2] | limb[3]) == 0; }
    PH_HD element square() const { return *this * *this; }

    // a − modulus where that is not negative; `top` is the carry out of a.
    PH_HD static element reduced(const uint64_t a[4], uint64_t top) {
        element r;
        unsigned __int128 borrow = 0;
        for (int i = 0; i < 4; i++) {
            const unsigned __int128 d = (unsigned __int128)a[i] - P::limb[i] - (uint64_t)borrow;
            r.limb[i] = (uint64_t)d;
            borrow = (d >> 64) & 1;
        }
        if (top == 0 && borrow)
            for (int i = 0; i < 4; i++) r.limb[i] = a[i];
        return r;
    }

    PH_HD friend element operator+(const element& a, const element& b) {
        uint64_t s[4];
        unsigned __int128 carry = 0;
        for (int i = 0; i < 4; i++) {
            carry += (unsigned __int128)a.limb[i] + b.limb[i];
            s[i] = (uint64_t)carry;
            carry >>= 64;
        }
        return reduced(s, (uint64_t)carry);
    }

    PH_HD friend element operator-(const element& a, const element& b) {
        element r;
        uint64_t borrow = 0;
        for (int i = 0; i < 4; i++) {
            const unsigned __int128 d = (unsigned __int128)a.limb[i] - b.limb[i] - borrow;
            r.limb[i] = (uint64_t)d;
            borrow = (uint64_t)(d >> 64) & 1;
        }
        unsigned __int128 carry = 0;
        for (int i = 0; borrow && i < 4; i++) {
            carry += (unsigned __int128)r.limb[i] + P::limb[i];
            r.limb[i] = (uint64_t)carry;
            carry >>= 64;
        }
        return r;
    }

    PH_HD friend element operator-(const element& a) { return nil() - a; }

    // Coarsely integrated operand scanning (Koç, Acar, Kaliski 1996).
    PH_HD friend element operator*(const element& a, const element& b) {
        uint64_t t[5] = {0, 0, 0, 0, 0};
        for (int i = 0; i < 4; i++) {
            unsigned __int128 carry = 0;
            for (int j = 0; j < 4; j++) {
                carry += (unsigned __int128)a.limb[j] * b.limb[i] + t[j];
                t[j] = (uint64_t)carry;
                carry >>= 64;
            }
            carry += t[4];
            const uint64_t high = (uint64_t)carry, over = (uint64_t)(carry >> 64);
            const uint64_t m = t[0] * P::inverse;
            carry = ((unsigned __int128)m * P::limb[0] + t[0]) >> 64;
            for (int j = 1; j < 4; j++) {
                carry += (unsigned __int128)m * P::limb[j] + t[j];
                t[j - 1] = (uint64_t)carry;
                carry >>= 64;
            }
            carry += high;
            t[3] = (uint64_t)carry;
            t[4] = over + (uint64_t)(carry >> 64);
        }
        return reduced(t, t[4]);
    }

    PH_HD void standard(uint32_t limbs[8]) const {
        const element value = *this * element{{1, 0, 0, 0}};
        for (int i = 0; i < 4; i++) {
            limbs[2 * i] = (uint32_t)value.limb[i];
            limbs[2 * i + 1] = (uint32_t)(value.limb[i] >> 32);
        }
    }
};

struct fr : element<fr_modulus> {
    PH_HD fr() {}
    PH_HD fr(const element& e) : element(e) {}
};
struct fq : element<fq_modulus> {
    PH_HD fq() {}
    PH_HD fq(const element& e) : element(e) {}
};

#endif

static_assert(sizeof(fr) == 32 && alignof(fr) == 32, "an element is eight limbs");
static_assert(sizeof(fq) == 32 && alignof(fq) == 32, "an element is eight limbs");

PH_HD fr power(fr base, uint64_t exponent) {
    fr result = fr::unit();
    for (; exponent; exponent >>= 1) {
        if (exponent & 1) result = result * base;
        base = base.square();
    }
    return result;
}

// The modulus of the scalar field.
PH_HD uint32_t modulus_limb(int i) {
    const uint32_t r[8] = {0xf0000001, 0x43e1f593, 0x79b97091, 0x2833e848, 0x8181585d, 0xb85045b6, 0xe131a029, 0x30644e72};
    return r[i];
}

// a^(r − 2), which is 1/a, and zero for zero.
PH_HD fr inverse(const fr& a) {
    fr result = fr::unit();
    PH_LOOP for (int bit = 253; bit >= 0; bit--) {
        result = result.square();
        uint32_t limb = modulus_limb(bit >> 5);
        if (bit < 32) limb -= 2;
        if ((limb >> (bit & 31)) & 1) result = result * a;
    }
    return result;
}

// The modulus of the base field, less 2.
PH_HD uint32_t base_exponent_limb(int i) {
    const uint32_t q[8] = {0xd87cfd45, 0x3c208c16, 0x6871ca8d, 0x97816a91, 0x8181585d, 0xb85045b6, 0xe131a029, 0x30644e72};
    return q[i];
}

PH_HD fq inverse(const fq& a) {
    fq result = fq::unit();
    PH_LOOP for (int bit = 253; bit >= 0; bit--) {
        result = result.square();
        if ((base_exponent_limb(bit >> 5) >> (bit & 31)) & 1) result = result * a;
    }
    return result;
}

}  // namespace
