// Points of BN254's G1, y² = x³ + 3: affine bases, and sums in XYZZ coordinates (x = X/ZZ, y = Y/ZZZ, ZZ³ = ZZZ²; the identity has ZZ = 0).
//
// Formulas: Explicit-Formulas Database, short Weierstrass, "xyzz": madd-2008-s, add-2008-s, dbl-2008-s-1, mdbl-2008-s-1. Equal and opposite
// operands and the identity are handled: columns of ones over repeated bases bring them all.
#pragma once

#include "field.cuh"

#if PH_DEVICE_BUILD
namespace parhelion_cuda {
#else
namespace parhelion_emulation {
#endif

// (0, 0), which is not on the curve, is the identity.
struct affine {
    fq x, y;
    PH_HD bool is_identity() const { return x.is_nil() && y.is_nil(); }
};

struct point {
    fq x, y, zz, zzz;

    PH_HD static point identity() {
        point p;
        p.x = fq::nil();
        p.y = fq::nil();
        p.zz = fq::nil();
        p.zzz = fq::nil();
        return p;
    }
    PH_HD bool is_identity() const { return zz.is_nil(); }
};

static_assert(sizeof(affine) == PH_AFFINE_BYTES && sizeof(point) == PH_POINT_BYTES, "points are their coordinates");

// 2(x, y) for a point of odd order, so that y is not zero.
PH_HD point doubled(const fq& x, const fq& y) {
    point r;
    const fq u = y + y;
    const fq v = u.square();
    const fq w = u * v;
    const fq s = x * v;
    const fq xx = x.square();
    const fq m = xx + xx + xx;
    r.x = m.square() - s - s;
    r.y = m * (s - r.x) - w * y;
    r.zz = v;
    r.zzz = w;
    return r;
}

PH_HD point doubled(const point& p) {
    if (p.is_identity()) return p;
    point r = doubled(p.x, p.y);
    r.zz = r.zz * p.zz;
    r.zzz = r.zzz * p.zzz;
    return r;
}

// p + (x, y), or p − (x, y).
PH_HD void accumulate(point& p, const affine& q, bool negative) {
    if (q.is_identity()) return;
    const fq y = negative ? fq(-q.y) : q.y;
    if (p.is_identity()) {
        p.x = q.x;
        p.y = y;
        p.zz = fq::unit();
        p.zzz = fq::unit();
        return;
    }
    const fq h = q.x * p.zz - p.x;
    const fq r = y * p.zzz - p.y;
    if (h.is_nil()) {
        p = r.is_nil() ? doubled(q.x, y) : point::identity();
        return;
    }
    const fq hh = h.square();
    const fq hhh = h * hh;
    const fq v = p.x * hh;
    const fq x = r.square() - hhh - v - v;
    p.y = r * (v - x) - p.y * hhh;
    p.x = x;
    p.zz = p.zz * hh;
    p.zzz = p.zzz * hhh;
}

PH_HD void accumulate(point& p, const point& q) {
    if (q.is_identity()) return;
    if (p.is_identity()) {
        p = q;
        return;
    }
    const fq u = p.x * q.zz, s = p.y * q.zzz;
    const fq h = q.x * p.zz - u;
    const fq r = q.y * p.zzz - s;
    if (h.is_nil()) {
        p = r.is_nil() ? doubled(p) : point::identity();
        return;
    }
    const fq hh = h.square();
    const fq hhh = h * hh;
    const fq v = u * hh;
    const fq x = r.square() - hhh - v - v;
    p.y = r * (v - x) - s * hhh;
    p.x = x;
    p.zz = p.zz * q.zz * hh;
    p.zzz = p.zzz * q.zzz * hhh;
}

PH_HD point times(const point& p, uint32_t factor) {
    point sum = point::identity();
    PH_LOOP for (uint32_t bit = 1u << 31; bit; bit >>= 1) {
        sum = doubled(sum);
        if (factor & bit) accumulate(sum, p);
    }
    return sum;
}

}  // namespace
