//! Vectors behind one trait, and the two ways to run code at the machine's level: [`launch`] for kernels
//! written with [`Lanes`], `simd!` for plain loops that the compiler vectorises.

use super::level::CpuLevel;
use crate::Float;

/// A vector register of `N` elements.
///
/// # Safety
/// Every method may be called only where the instructions of the type exist: inside [`launch`] at its level.
/// Pointers must be valid for the elements that the method's name says.
pub trait Lanes: Copy {
    /// What the lanes hold.
    type Elem: Float;
    /// Lanes in a register.
    const N: usize;
    /// Whether there are 32 registers of this kind, not 16.
    const MANY: bool;
    /// All lanes 0.
    unsafe fn zero() -> Self;
    /// All lanes `x`.
    unsafe fn splat(x: Self::Elem) -> Self;
    /// Reads `N` elements.
    unsafe fn load(p: *const Self::Elem) -> Self;
    /// Reads the first `n <= N`, the rest are 0.
    unsafe fn load_first(p: *const Self::Elem, n: usize) -> Self;
    /// Writes `N` elements.
    unsafe fn store(self, p: *mut Self::Elem);
    /// Writes the first `n <= N`.
    unsafe fn store_first(self, p: *mut Self::Elem, n: usize);
    /// `self + a * b`, rounded once where the machine can.
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    /// Lane by lane sum.
    unsafe fn add(self, other: Self) -> Self;
    /// Negative lanes become 0, NaN stays.
    unsafe fn relu(self) -> Self;
    /// The sum of the lanes, in a tree of halves.
    unsafe fn sum(self) -> Self::Elem;
    /// Transposes a square of `N x N`: rows of `from` lie `stride` apart, those of `to` `to_stride`.
    #[inline(always)]
    unsafe fn transpose(from: *const Self::Elem, stride: usize, to: *mut Self::Elem, to_stride: usize) {
        for i in 0..Self::N {
            for j in 0..Self::N {
                // SAFETY: the trait's contract.
                unsafe { to.add(j * to_stride + i).write(from.add(i * stride + j).read()) };
            }
        }
    }
    /// The sums of four registers, which together cost little more than one.
    #[inline(always)]
    unsafe fn sum4(regs: [Self; 4]) -> [Self::Elem; 4] {
        // SAFETY: the trait's contract.
        regs.map(|r| unsafe { r.sum() })
    }
}

/// Eight lanes as an array: what runs where there is no vector unit that we know.
#[derive(Clone, Copy, Debug)]
pub struct Portable<T>([T; 8]);

impl<T: Float> Lanes for Portable<T> {
    type Elem = T;
    const N: usize = 8;
    const MANY: bool = false;
    #[inline(always)]
    unsafe fn zero() -> Self {
        Portable([T::ZERO; 8])
    }
    #[inline(always)]
    unsafe fn splat(x: T) -> Self {
        Portable([x; 8])
    }
    #[inline(always)]
    unsafe fn load(p: *const T) -> Self {
        // SAFETY: the caller vouches for 8 elements.
        Portable(unsafe { p.cast::<[T; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_first(p: *const T, n: usize) -> Self {
        let mut lanes = [T::ZERO; 8];
        for (i, lane) in lanes.iter_mut().enumerate().take(n) {
            // SAFETY: the caller vouches for n elements.
            *lane = unsafe { p.add(i).read() };
        }
        Portable(lanes)
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut T) {
        // SAFETY: the caller vouches for 8 elements.
        unsafe { p.cast::<[T; 8]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut T, n: usize) {
        for (i, lane) in self.0.iter().enumerate().take(n) {
            // SAFETY: the caller vouches for n elements.
            unsafe { p.add(i).write(*lane) };
        }
    }
    #[inline(always)]
    unsafe fn fma(mut self, a: Self, b: Self) -> Self {
        for i in 0..8 {
            self.0[i] += a.0[i] * b.0[i];
        }
        self
    }
    #[inline(always)]
    unsafe fn add(mut self, other: Self) -> Self {
        for i in 0..8 {
            self.0[i] += other.0[i];
        }
        self
    }
    #[inline(always)]
    unsafe fn relu(self) -> Self {
        Portable(self.0.map(|v| if v < T::ZERO { T::ZERO } else { v }))
    }
    #[inline(always)]
    unsafe fn sum(self) -> T {
        let v = self.0;
        ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use std::arch::x86_64::{
        __m256, __m256d, __m256i, __m512, __m512d, _mm_add_pd, _mm_add_ps, _mm_add_ss, _mm_cvtsd_f64,
        _mm_cvtss_f32, _mm_movehl_ps, _mm_shuffle_ps, _mm_storeu_ps, _mm_unpackhi_pd, _mm256_add_pd,
        _mm256_add_ps, _mm256_castpd256_pd128, _mm256_castps256_ps128, _mm256_extractf128_pd,
        _mm256_extractf128_ps, _mm256_fmadd_pd, _mm256_fmadd_ps, _mm256_loadu_pd, _mm256_loadu_ps,
        _mm256_loadu_si256, _mm256_maskload_pd, _mm256_maskload_ps, _mm256_maskstore_pd, _mm256_maskstore_ps,
        _mm256_max_pd, _mm256_max_ps, _mm256_set1_pd, _mm256_set1_ps, _mm256_setzero_pd, _mm256_setzero_ps,
        _mm256_storeu_pd, _mm256_storeu_ps, _mm512_add_pd, _mm512_add_ps, _mm512_castps512_ps256,
        _mm512_extractf32x8_ps, _mm512_fmadd_pd, _mm512_fmadd_ps, _mm512_loadu_pd, _mm512_loadu_ps,
        _mm512_mask_storeu_pd, _mm512_mask_storeu_ps, _mm512_maskz_loadu_pd, _mm512_maskz_loadu_ps,
        _mm512_max_pd, _mm512_max_ps, _mm512_reduce_add_pd, _mm512_reduce_add_ps, _mm512_set1_pd,
        _mm512_set1_ps, _mm512_setzero_pd, _mm512_setzero_ps, _mm512_shuffle_f32x4, _mm512_shuffle_ps,
        _mm512_storeu_pd, _mm512_storeu_ps, _mm512_unpackhi_ps, _mm512_unpacklo_ps,
    };

    /// Pairs of rows, pairs of pairs, then quarters of registers change places.
    ///
    /// # Safety
    /// At AVX-512; 16 rows of 16 on both sides.
    #[inline(always)]
    unsafe fn transpose_16x16(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: the caller's contract.
        unsafe {
            let mut quads = [[_mm512_setzero_ps(); 4]; 4];
            for (g, quad) in quads.iter_mut().enumerate() {
                let [a, b, c, d]: [__m512; 4] =
                    std::array::from_fn(|i| _mm512_loadu_ps(from.add((4 * g + i) * stride)));
                let (ab, cd) = (_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d));
                let (ab_high, cd_high) = (_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d));
                *quad = [
                    _mm512_shuffle_ps::<0x44>(ab, cd),
                    _mm512_shuffle_ps::<0xEE>(ab, cd),
                    _mm512_shuffle_ps::<0x44>(ab_high, cd_high),
                    _mm512_shuffle_ps::<0xEE>(ab_high, cd_high),
                ];
            }
            let [first, second, third, fourth] = quads;
            for c in 0..4 {
                let even = _mm512_shuffle_f32x4::<0x88>(first[c], second[c]);
                let odd = _mm512_shuffle_f32x4::<0xDD>(first[c], second[c]);
                let even_low = _mm512_shuffle_f32x4::<0x88>(third[c], fourth[c]);
                let odd_low = _mm512_shuffle_f32x4::<0xDD>(third[c], fourth[c]);
                let rows = [
                    _mm512_shuffle_f32x4::<0x88>(even, even_low),
                    _mm512_shuffle_f32x4::<0x88>(odd, odd_low),
                    _mm512_shuffle_f32x4::<0xDD>(even, even_low),
                    _mm512_shuffle_f32x4::<0xDD>(odd, odd_low),
                ];
                for (quarter, row) in rows.into_iter().enumerate() {
                    _mm512_storeu_ps(to.add((4 * quarter + c) * to_stride), row);
                }
            }
        }
    }

    /// A window into this gives masks of 0..=8 leading 32-bit lanes.
    static MASK32: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    /// The same for 0..=4 leading 64-bit lanes.
    static MASK64: [i64; 8] = [-1, -1, -1, -1, 0, 0, 0, 0];

    #[inline(always)]
    unsafe fn mask32(n: usize) -> __m256i {
        // SAFETY: n <= 8, so the window ends inside the table; the caller runs at AVX2.
        unsafe { _mm256_loadu_si256(MASK32.as_ptr().add(8 - n).cast()) }
    }

    #[inline(always)]
    unsafe fn mask64(n: usize) -> __m256i {
        // SAFETY: n <= 4, so the window ends inside the table; the caller runs at AVX2.
        unsafe { _mm256_loadu_si256(MASK64.as_ptr().add(4 - n).cast()) }
    }

    macro_rules! lanes {
        ($reg:ty, $elem:ty, $n:expr, $many:expr, $zero:ident, $splat:ident, $load:ident, $store:ident, $fma:ident,
         $add:ident, $max:ident, |$lp:ident, $ln:ident| $load_first:expr, |$sv:ident, $sp:ident, $sn:ident| $store_first:expr,
         |$v:ident| $sum:expr $(, |$four:ident| $sum4:expr, $transpose:ident)?) => {
            // Each method is one or two instructions of the level that the type belongs to; the trait's contract
            // says that the caller runs there and vouches for the pointers.
            impl Lanes for $reg {
                type Elem = $elem;
                const N: usize = $n;
                const MANY: bool = $many;
                #[inline(always)]
                unsafe fn zero() -> Self {
                    // SAFETY: the trait's contract.
                    unsafe { $zero() }
                }
                #[inline(always)]
                unsafe fn splat(x: $elem) -> Self {
                    // SAFETY: the trait's contract.
                    unsafe { $splat(x) }
                }
                #[inline(always)]
                unsafe fn load(p: *const $elem) -> Self {
                    // SAFETY: the trait's contract.
                    unsafe { $load(p) }
                }
                #[inline(always)]
                unsafe fn load_first($lp: *const $elem, $ln: usize) -> Self {
                    // SAFETY: the trait's contract; masked lanes are not touched.
                    unsafe { $load_first }
                }
                #[inline(always)]
                unsafe fn store(self, p: *mut $elem) {
                    // SAFETY: the trait's contract.
                    unsafe { $store(p, self) }
                }
                #[inline(always)]
                unsafe fn store_first(self, $sp: *mut $elem, $sn: usize) {
                    let $sv = self;
                    // SAFETY: the trait's contract; masked lanes are not touched.
                    unsafe { $store_first }
                }
                #[inline(always)]
                unsafe fn fma(self, a: Self, b: Self) -> Self {
                    // SAFETY: the trait's contract.
                    unsafe { $fma(a, b, self) }
                }
                #[inline(always)]
                unsafe fn add(self, other: Self) -> Self {
                    // SAFETY: the trait's contract.
                    unsafe { $add(self, other) }
                }
                #[inline(always)]
                unsafe fn relu(self) -> Self {
                    // Where the lanes are equal or one is no number, the maximum is the second.
                    // SAFETY: the trait's contract.
                    unsafe { $max($zero(), self) }
                }
                #[inline(always)]
                unsafe fn sum(self) -> $elem {
                    let $v = self;
                    // SAFETY: the trait's contract.
                    unsafe { $sum }
                }
                $(#[inline(always)]
                unsafe fn sum4($four: [Self; 4]) -> [$elem; 4] {
                    // SAFETY: the trait's contract.
                    unsafe { $sum4 }
                }
                #[inline(always)]
                unsafe fn transpose(from: *const $elem, stride: usize, to: *mut $elem, to_stride: usize) {
                    // SAFETY: the trait's contract.
                    unsafe { $transpose(from, stride, to, to_stride) }
                })?
            }
        };
    }

    lanes!(
        __m512,
        f32,
        16,
        true,
        _mm512_setzero_ps,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_fmadd_ps,
        _mm512_add_ps,
        _mm512_max_ps,
        |p, n| _mm512_maskz_loadu_ps(((1_u32 << n) - 1) as u16, p),
        |v, p, n| _mm512_mask_storeu_ps(p, ((1_u32 << n) - 1) as u16, v),
        |v| _mm512_reduce_add_ps(v),
        |regs| {
            // Transposing pairs, then pairs of pairs, leaves quarter sums of all four side by side.
            let [a, b, c, d] = regs;
            let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            let all = _mm512_add_ps(_mm512_shuffle_ps::<0x44>(ab, cd), _mm512_shuffle_ps::<0xEE>(ab, cd));
            let half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps::<1>(all));
            let quad = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half));
            let mut sums = [0.0; 4];
            _mm_storeu_ps(sums.as_mut_ptr(), quad);
            sums
        },
        transpose_16x16
    );
    lanes!(
        __m512d,
        f64,
        8,
        true,
        _mm512_setzero_pd,
        _mm512_set1_pd,
        _mm512_loadu_pd,
        _mm512_storeu_pd,
        _mm512_fmadd_pd,
        _mm512_add_pd,
        _mm512_max_pd,
        |p, n| _mm512_maskz_loadu_pd(((1_u32 << n) - 1) as u8, p),
        |v, p, n| _mm512_mask_storeu_pd(p, ((1_u32 << n) - 1) as u8, v),
        |v| _mm512_reduce_add_pd(v)
    );
    lanes!(
        __m256,
        f32,
        8,
        false,
        _mm256_setzero_ps,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_fmadd_ps,
        _mm256_add_ps,
        _mm256_max_ps,
        |p, n| _mm256_maskload_ps(p, mask32(n)),
        |v, p, n| _mm256_maskstore_ps(p, mask32(n), v),
        |v| {
            let quad = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let pair = _mm_add_ps(quad, _mm_movehl_ps(quad, quad));
            _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps::<1>(pair, pair)))
        }
    );
    lanes!(
        __m256d,
        f64,
        4,
        false,
        _mm256_setzero_pd,
        _mm256_set1_pd,
        _mm256_loadu_pd,
        _mm256_storeu_pd,
        _mm256_fmadd_pd,
        _mm256_add_pd,
        _mm256_max_pd,
        |p, n| _mm256_maskload_pd(p, mask64(n)),
        |v, p, n| _mm256_maskstore_pd(p, mask64(n), v),
        |v| {
            let pair = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd::<1>(v));
            _mm_cvtsd_f64(_mm_add_pd(pair, _mm_unpackhi_pd(pair, pair)))
        }
    );
}

/// A kernel written once over [`Lanes`] and run at the machine's level by [`launch`].
pub(crate) trait Kernel<T: Float> {
    /// Runs with vectors of type `L`.
    ///
    /// # Safety
    /// The instructions of `L` must exist. Mark the implementation `#[inline(always)]`, or it is compiled without them.
    unsafe fn run<L: Lanes<Elem = T>>(self);
}

/// Runs a kernel at [`CpuLevel::current`].
#[inline]
pub(crate) fn launch<T: Float, K: Kernel<T>>(kernel: K) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn wide<T: Float, K: Kernel<T>>(kernel: K) {
            // SAFETY: this function has the features of `Wide`.
            unsafe { kernel.run::<T::Wide>() }
        }
        #[target_feature(enable = "avx2,fma")]
        fn half<T: Float, K: Kernel<T>>(kernel: K) {
            // SAFETY: this function has the features of `Half`.
            unsafe { kernel.run::<T::Half>() }
        }
        match CpuLevel::current() {
            // SAFETY: the level was detected on this machine.
            CpuLevel::Avx512 => return unsafe { wide::<T, K>(kernel) },
            // SAFETY: the level was detected on this machine.
            CpuLevel::Avx2 => return unsafe { half::<T, K>(kernel) },
            CpuLevel::Portable => {}
        }
    }
    // SAFETY: plain code.
    unsafe { kernel.run::<T::Plain>() }
}

/// Compiles a function of plain loops three times, for AVX-512, AVX2 and any machine, and picks at run time.
///
/// The loops must be free of fused multiply-adds, so that all three give the same bits.
macro_rules! simd {
    ($(#[$attr:meta])* $vis:vis fn $name:ident $(<$T:ident: $bound:path>)? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$attr])*
        #[inline]
        $vis fn $name $(<$T: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn plain $(<$T: $bound>)? ($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn wide $(<$T: $bound>)? ($($arg: $ty),*) $(-> $ret)? { plain($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn half $(<$T: $bound>)? ($($arg: $ty),*) $(-> $ret)? { plain($($arg),*) }
                match $crate::cpu::CpuLevel::current() {
                    // SAFETY: the level was detected on this machine.
                    $crate::cpu::CpuLevel::Avx512 => return unsafe { wide($($arg),*) },
                    // SAFETY: the level was detected on this machine.
                    $crate::cpu::CpuLevel::Avx2 => return unsafe { half($($arg),*) },
                    $crate::cpu::CpuLevel::Portable => {}
                }
            }
            plain($($arg),*)
        }
    };
}
pub(crate) use simd;
