//! Element-wise kernels.

use super::Cpu;
use super::simd::simd;
use crate::Float;
use crate::backend::Write;
use crate::op::{BinaryKind, ElementwiseOps, Strided, UnaryKind};
use crate::rng::Stream;

impl<T: Float> ElementwiseOps for Cpu<T> {
    fn fill(&self, value: f64, out: &mut [T]) {
        out.fill(T::from_f64(value));
    }

    fn unary(&self, kind: UnaryKind, x: &[T], out: &mut [T]) {
        assert_eq!(x.len(), out.len(), "unary");
        match kind {
            UnaryKind::Relu => unary_with::<T, Relu>(x, out),
            UnaryKind::Gelu => unary_with::<T, Gelu>(x, out),
            UnaryKind::GeluTanh => unary_with::<T, GeluTanh>(x, out),
            UnaryKind::Silu => unary_with::<T, Silu>(x, out),
            UnaryKind::Sigmoid => unary_with::<T, Sigmoid>(x, out),
            UnaryKind::Tanh => unary_with::<T, Tanh>(x, out),
            UnaryKind::Exp => unary_with::<T, Exp>(x, out),
            UnaryKind::Ln => unary_with::<T, Ln>(x, out),
            UnaryKind::Sqrt => unary_with::<T, Sqrt>(x, out),
            UnaryKind::Rsqrt => unary_with::<T, Rsqrt>(x, out),
            UnaryKind::Recip => unary_with::<T, Recip>(x, out),
            UnaryKind::Square => unary_with::<T, Square>(x, out),
        }
    }

    fn unary_grad(&self, kind: UnaryKind, x: &[T], dy: &[T], write: Write, out: &mut [T]) {
        assert!(x.len() == out.len() && dy.len() == out.len(), "unary_grad");
        match kind {
            UnaryKind::Relu => grad_with::<T, Relu>(x, dy, write, out),
            UnaryKind::Gelu => grad_with::<T, Gelu>(x, dy, write, out),
            UnaryKind::GeluTanh => grad_with::<T, GeluTanh>(x, dy, write, out),
            UnaryKind::Silu => grad_with::<T, Silu>(x, dy, write, out),
            UnaryKind::Sigmoid => grad_with::<T, Sigmoid>(x, dy, write, out),
            UnaryKind::Tanh => grad_with::<T, Tanh>(x, dy, write, out),
            UnaryKind::Exp => grad_with::<T, Exp>(x, dy, write, out),
            UnaryKind::Ln => grad_with::<T, Ln>(x, dy, write, out),
            UnaryKind::Sqrt => grad_with::<T, Sqrt>(x, dy, write, out),
            UnaryKind::Rsqrt => grad_with::<T, Rsqrt>(x, dy, write, out),
            UnaryKind::Recip => grad_with::<T, Recip>(x, dy, write, out),
            UnaryKind::Square => grad_with::<T, Square>(x, dy, write, out),
        }
    }

    fn unary_grad2(&self, kind: UnaryKind, x: &[T], dx: &[T], dy: &[T], write: Write, out: &mut [T]) {
        assert!(x.len() == out.len() && dy.len() == out.len() && dx.len() == out.len(), "unary_grad2");
        match kind {
            UnaryKind::Relu => grad2_with::<T, Relu>(x, dx, dy, write, out),
            UnaryKind::Gelu => grad2_with::<T, Gelu>(x, dx, dy, write, out),
            UnaryKind::GeluTanh => grad2_with::<T, GeluTanh>(x, dx, dy, write, out),
            UnaryKind::Silu => grad2_with::<T, Silu>(x, dx, dy, write, out),
            UnaryKind::Sigmoid => grad2_with::<T, Sigmoid>(x, dx, dy, write, out),
            UnaryKind::Tanh => grad2_with::<T, Tanh>(x, dx, dy, write, out),
            UnaryKind::Exp => grad2_with::<T, Exp>(x, dx, dy, write, out),
            UnaryKind::Ln => grad2_with::<T, Ln>(x, dx, dy, write, out),
            UnaryKind::Sqrt => grad2_with::<T, Sqrt>(x, dx, dy, write, out),
            UnaryKind::Rsqrt => grad2_with::<T, Rsqrt>(x, dx, dy, write, out),
            UnaryKind::Recip => grad2_with::<T, Recip>(x, dx, dy, write, out),
            UnaryKind::Square => grad2_with::<T, Square>(x, dx, dy, write, out),
        }
    }

    fn binary(&self, kind: BinaryKind, a: (&[T], Strided), b: (&[T], Strided), write: Write, out: &mut [T]) {
        assert_eq!(a.1.shape, b.1.shape, "binary");
        assert_eq!(a.1.shape.len(), out.len(), "binary");
        if let (Some(a), Some(b)) = (dense(a), dense(b)) {
            return binary_dense(kind, a, b, write, out);
        }
        match kind {
            BinaryKind::Add => binary_with(|x, y| x + y, a, b, write, out),
            BinaryKind::Sub => binary_with(|x, y| x - y, a, b, write, out),
            BinaryKind::Mul => binary_with(|x, y| x * y, a, b, write, out),
            BinaryKind::Div => binary_with(|x, y| x / y, a, b, write, out),
        }
    }

    fn affine(&self, alpha: f64, beta: f64, x: &[T], write: Write, y: &mut [T]) {
        assert_eq!(x.len(), y.len(), "affine");
        affine(T::from_f64(alpha), T::from_f64(beta), x, write, y);
    }

    fn dropout(&self, key: Stream, first: u64, p: f64, x: &[T], write: Write, out: &mut [T]) {
        assert_eq!(x.len(), out.len(), "dropout");
        let scale = T::from_f64(1.0 / (1.0 - p));
        for (i, (x, y)) in (first..).zip(x.iter().zip(out)) {
            let kept = if f64::from(key.uniform_f32(i)) < p { T::ZERO } else { *x * scale };
            *y = if write == Write::Add { *y + kept } else { kept };
        }
    }
}

simd! {
    fn affine<T: Float>(alpha: T, beta: T, x: &[T], write: Write, y: &mut [T]) {
        match write {
            Write::Set => for (x, y) in x.iter().zip(y) { *y = alpha * *x + beta; },
            Write::Add => for (x, y) in x.iter().zip(y) { *y += alpha * *x + beta; },
        }
    }
}

/// A function with its first two derivatives.
trait Function<T> {
    fn at(x: T) -> T;
    fn slope(x: T) -> T;
    fn bend(x: T) -> T;
}

macro_rules! function {
    ($name:ident<$T:ident>, |$x:ident| $at:expr, $slope:expr, $bend:expr) => {
        struct $name;
        impl<$T: Float> Function<$T> for $name {
            #[inline(always)]
            fn at($x: $T) -> $T {
                $at
            }
            #[inline(always)]
            fn slope($x: $T) -> $T {
                $slope
            }
            #[inline(always)]
            fn bend($x: $T) -> $T {
                $bend
            }
        }
    };
}

#[inline(always)]
fn c<T: Float>(x: f64) -> T {
    T::from_f64(x)
}

#[inline(always)]
fn sigmoid<T: Float>(x: T) -> T {
    T::ONE / (T::ONE + (-x).exp())
}

const SQRT_HALF: f64 = std::f64::consts::FRAC_1_SQRT_2;
/// Density of the normal distribution at 0.
const PHI0: f64 = 0.398_942_280_401_432_7;
/// `sqrt(2 / pi)` and the cubic's factor in the tanh form of GELU.
const GELU_A: f64 = 0.797_884_560_802_865_4;
const GELU_B: f64 = 0.044_715;

#[inline(always)]
fn density<T: Float>(x: T) -> T {
    c::<T>(PHI0) * (c::<T>(-0.5) * x * x).exp()
}

#[inline(always)]
fn distribution<T: Float>(x: T) -> T {
    c::<T>(0.5) * (T::ONE + (x * c(SQRT_HALF)).erf())
}

/// `s`, `u'`, `u''` of tanh-GELU as `x s(u)`, `s` the sigmoid: `(1 + tanh(u / 2)) / 2` is `s(u)`.
#[inline(always)]
fn gelu_parts<T: Float>(x: T) -> (T, T, T) {
    let xx = x * x;
    let u = x * (c::<T>(2.0 * GELU_A) + c::<T>(2.0 * GELU_A * GELU_B) * xx);
    let slope = c::<T>(2.0 * GELU_A) + c::<T>(6.0 * GELU_A * GELU_B) * xx;
    (sigmoid(u), slope, c::<T>(12.0 * GELU_A * GELU_B) * x)
}

function!(Relu<T>, |x| if x < T::ZERO { T::ZERO } else { x }, if x > T::ZERO { T::ONE } else { T::ZERO }, {
    let _ = x;
    T::ZERO
});
function!(
    Gelu<T>,
    |x| x * distribution(x),
    distribution(x) + x * density(x),
    (c::<T>(2.0) - x * x) * density(x)
);
function!(
    GeluTanh<T>,
    |x| x * gelu_parts(x).0,
    {
        let (s, u1, _) = gelu_parts(x);
        s + x * (s * (T::ONE - s)) * u1
    },
    {
        let (s, u1, u2) = gelu_parts(x);
        let s1 = s * (T::ONE - s);
        s1 * (c::<T>(2.0) * u1 + x * ((T::ONE - c::<T>(2.0) * s) * u1 * u1 + u2))
    }
);
function!(
    Silu<T>,
    |x| x * sigmoid(x),
    {
        let s = sigmoid(x);
        s * (T::ONE + x * (T::ONE - s))
    },
    {
        let s = sigmoid(x);
        s * (T::ONE - s) * (c::<T>(2.0) + x * (T::ONE - c::<T>(2.0) * s))
    }
);
function!(
    Sigmoid<T>,
    |x| sigmoid(x),
    {
        let s = sigmoid(x);
        s * (T::ONE - s)
    },
    {
        let s = sigmoid(x);
        s * (T::ONE - s) * (T::ONE - c::<T>(2.0) * s)
    }
);
function!(
    Tanh<T>,
    |x| x.tanh(),
    {
        let t = x.tanh();
        T::ONE - t * t
    },
    {
        let t = x.tanh();
        c::<T>(-2.0) * t * (T::ONE - t * t)
    }
);
function!(Exp<T>, |x| x.exp(), x.exp(), x.exp());
function!(Ln<T>, |x| x.ln(), T::ONE / x, c::<T>(-1.0) / (x * x));
function!(Sqrt<T>, |x| x.sqrt(), c::<T>(0.5) / x.sqrt(), c::<T>(-0.25) / (x * x.sqrt()));
function!(Rsqrt<T>, |x| T::ONE / x.sqrt(), c::<T>(-0.5) / (x * x.sqrt()), c::<T>(0.75) / (x * x * x.sqrt()));
function!(Recip<T>, |x| T::ONE / x, c::<T>(-1.0) / (x * x), c::<T>(2.0) / (x * x * x));
function!(Square<T>, |x| x * x, c::<T>(2.0) * x, {
    let _ = x;
    c::<T>(2.0)
});

#[inline(always)]
fn unary_loop<T: Float, F: Function<T>>(x: &[T], out: &mut [T]) {
    for (x, y) in x.iter().zip(out) {
        *y = F::at(*x);
    }
}

#[inline(always)]
fn grad_loop<T: Float, F: Function<T>>(x: &[T], dy: &[T], write: Write, out: &mut [T]) {
    match write {
        Write::Set => {
            for ((x, dy), y) in x.iter().zip(dy).zip(out) {
                *y = F::slope(*x) * *dy;
            }
        }
        Write::Add => {
            for ((x, dy), y) in x.iter().zip(dy).zip(out) {
                *y += F::slope(*x) * *dy;
            }
        }
    }
}

#[inline(always)]
fn grad2_loop<T: Float, F: Function<T>>(x: &[T], dx: &[T], dy: &[T], write: Write, out: &mut [T]) {
    for (((x, dx), dy), y) in x.iter().zip(dx).zip(dy).zip(out) {
        let v = F::bend(*x) * *dx * *dy;
        *y = if write == Write::Add { *y + v } else { v };
    }
}

/// Compiles a loop above for each level: `simd!` cannot, since the function is a type parameter.
macro_rules! leveled {
    ($name:ident = $body:ident($($arg:ident: $ty:ty),*)) => {
        #[inline]
        fn $name<T: Float, F: Function<T>>($($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                use super::CpuLevel;
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn wide<T: Float, F: Function<T>>($($arg: $ty),*) { $body::<T, F>($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn half<T: Float, F: Function<T>>($($arg: $ty),*) { $body::<T, F>($($arg),*) }
                match CpuLevel::current() {
                    // SAFETY: the level was detected on this machine.
                    CpuLevel::Avx512 => return unsafe { wide::<T, F>($($arg),*) },
                    // SAFETY: the level was detected on this machine.
                    CpuLevel::Avx2 => return unsafe { half::<T, F>($($arg),*) },
                    CpuLevel::Portable => {}
                }
            }
            $body::<T, F>($($arg),*);
        }
    };
}
leveled!(unary_with = unary_loop(x: &[T], out: &mut [T]));
leveled!(grad_with = grad_loop(x: &[T], dy: &[T], write: Write, out: &mut [T]));
leveled!(grad2_with = grad2_loop(x: &[T], dx: &[T], dy: &[T], write: Write, out: &mut [T]));

/// The elements of an operand that lie as its shape says.
fn dense<T>((x, layout): (&[T], Strided)) -> Option<&[T]> {
    let is_dense = layout.strides == Strided::dense(layout.shape).strides;
    is_dense.then(|| &x[layout.offset..layout.offset + layout.shape.len()])
}

#[inline(always)]
fn combine<T: Float>(f: impl Fn(T, T) -> T, a: &[T], b: &[T], write: Write, out: &mut [T]) {
    match write {
        Write::Set => {
            for ((y, a), b) in out.iter_mut().zip(a).zip(b) {
                *y = f(*a, *b);
            }
        }
        Write::Add => {
            for ((y, a), b) in out.iter_mut().zip(a).zip(b) {
                *y += f(*a, *b);
            }
        }
    }
}

simd! {
    fn binary_dense<T: Float>(kind: BinaryKind, a: &[T], b: &[T], write: Write, out: &mut [T]) {
        match kind {
            BinaryKind::Add => combine(|x, y| x + y, a, b, write, out),
            BinaryKind::Sub => combine(|x, y| x - y, a, b, write, out),
            BinaryKind::Mul => combine(|x, y| x * y, a, b, write, out),
            BinaryKind::Div => combine(|x, y| x / y, a, b, write, out),
        }
    }
}

/// Walks all but the last dim by index, the last one in a loop that vectorises for strides 0 and 1.
#[inline]
fn binary_with<T: Float>(
    f: impl Fn(T, T) -> T + Copy,
    (a, la): (&[T], Strided),
    (b, lb): (&[T], Strided),
    write: Write,
    out: &mut [T],
) {
    let shape = la.shape;
    let n = shape.last();
    if out.is_empty() {
        return;
    }
    let last = shape.rank().saturating_sub(1);
    let (sa, sb) = if shape.rank() == 0 { (0, 0) } else { (la.strides[last], lb.strides[last]) };
    let mut index = [0; crate::MAX_DIMS];
    for row in out.chunks_exact_mut(n) {
        let at = |l: &Strided| {
            l.offset + index.iter().zip(&l.strides).take(last).map(|(i, s)| i * s).sum::<usize>()
        };
        let (a, b) = (&a[at(&la)..], &b[at(&lb)..]);
        let apply = |y: &mut T, v: T| *y = if write == Write::Add { *y + v } else { v };
        match (sa, sb) {
            (1, 1) => row.iter_mut().zip(a).zip(b).for_each(|((y, a), b)| apply(y, f(*a, *b))),
            (1, 0) => row.iter_mut().zip(a).for_each(|(y, a)| apply(y, f(*a, b[0]))),
            (0, 1) => row.iter_mut().zip(b).for_each(|(y, b)| apply(y, f(a[0], *b))),
            _ => row.iter_mut().enumerate().for_each(|(i, y)| apply(y, f(a[i * sa], b[i * sb]))),
        }
        for dim in (0..last).rev() {
            index[dim] += 1;
            if index[dim] < shape[dim] {
                break;
            }
            index[dim] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;

    #[test]
    fn derivatives_match_differences() {
        let cpu = Cpu::<f64>::new();
        let eval = |kind, x: f64| {
            let mut y = [0.0];
            cpu.unary(kind, &[x], &mut y);
            y[0]
        };
        let slope = |kind, x: f64| {
            let mut y = [0.0];
            cpu.unary_grad(kind, &[x], &[1.0], Write::Set, &mut y);
            y[0]
        };
        let h = 1e-5;
        for kind in UnaryKind::ALL {
            for x in [0.3, 1.7, 2.9] {
                let first = (eval(kind, x + h) - eval(kind, x - h)) / (2.0 * h);
                assert!((first - slope(kind, x)).abs() < 1e-7, "{kind:?}' at {x}");
                let second = (slope(kind, x + h) - slope(kind, x - h)) / (2.0 * h);
                let mut bend = [1.0];
                cpu.unary_grad2(kind, &[x], &[2.0], &[3.0], Write::Add, &mut bend);
                assert!((6.0 * second + 1.0 - bend[0]).abs() < 1e-5, "{kind:?}'' at {x}");
            }
        }
    }

    #[test]
    fn relu_lets_nan_through() {
        let mut y = [0.0_f32; 2];
        Cpu::new().unary(UnaryKind::Relu, &[f32::NAN, -1.0], &mut y);
        assert!(y[0].is_nan());
        assert_eq!(y[1], 0.0);
    }

    #[test]
    fn binary_broadcasts_rows_and_columns() {
        let out = Shape::from([2, 3]);
        let cpu = Cpu::<f32>::new();
        let mut y = [0.0; 6];
        let a = ([1.0, 2.0, 3.0], Strided::broadcast(Shape::from([3]), out));
        let b = ([10.0, 20.0], Strided::broadcast(Shape::from([2, 1]), out));
        cpu.binary(BinaryKind::Sub, (&b.0, b.1), (&a.0, a.1), Write::Set, &mut y);
        assert_eq!(y, [9.0, 8.0, 7.0, 19.0, 18.0, 17.0]);
    }
}
