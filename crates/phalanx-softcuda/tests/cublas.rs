//! Products against plain loops.

mod support;

use half::bf16;
use std::ffi::{c_int, c_longlong, c_void};
use std::ptr;
use support::{Gpu, Handle};

#[allow(clippy::too_many_arguments, reason = "the library's")]
mod library {
    use super::{Handle, c_int, c_longlong, c_void};

    unsafe extern "C" {
        pub(super) fn cublasCreate_v2(handle: *mut Handle) -> u32;
        pub(super) fn cublasSgemmStridedBatched(
            handle: Handle,
            transa: c_int,
            transb: c_int,
            m: c_int,
            n: c_int,
            k: c_int,
            alpha: *const f32,
            a: u64,
            lda: c_int,
            stride_a: c_longlong,
            b: u64,
            ldb: c_int,
            stride_b: c_longlong,
            beta: *const f32,
            c: u64,
            ldc: c_int,
            stride_c: c_longlong,
            count: c_int,
        ) -> u32;
        pub(super) fn cublasGemmEx(
            handle: Handle,
            transa: c_int,
            transb: c_int,
            m: c_int,
            n: c_int,
            k: c_int,
            alpha: *const c_void,
            a: u64,
            a_type: c_int,
            lda: c_int,
            b: u64,
            b_type: c_int,
            ldb: c_int,
            beta: *const c_void,
            c: u64,
            c_type: c_int,
            ldc: c_int,
            compute: c_int,
            algorithm: c_int,
        ) -> u32;
    }
}

fn handle() -> Handle {
    let mut handle = ptr::null_mut();
    // SAFETY: a valid pointer
    assert_eq!(unsafe { library::cublasCreate_v2(&mut handle) }, 0);
    handle
}

/// Small whole numbers, whose sums are exact.
fn numbers(count: usize, salt: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7 + salt * 3) % 11) as f32 - 5.0).collect()
}

fn int(n: usize) -> c_int {
    c_int::try_from(n).expect("a small size")
}

#[test]
fn products_of_all_transpositions_and_leading_dimensions() {
    let gpu = Gpu::new();
    let handle = handle();
    let (m, n, k, count) = (3, 4, 5, 2);
    for transposed in 0..4 {
        for extra in [0, 2] {
            let (ta, tb) = (transposed & 1 == 1, transposed & 2 == 2);
            let (a_rows, a_columns) = if ta { (k, m) } else { (m, k) };
            let (b_rows, b_columns) = if tb { (n, k) } else { (k, n) };
            let (lda, ldb, ldc) = (a_rows + extra, b_rows + extra, m + extra);
            let (sa, sb, sc) = (lda * a_columns, ldb * b_columns, ldc * n);
            let (a, b, c) = (numbers(sa * count, 1), numbers(sb * count, 2), numbers(sc * count, 3));
            let (pa, pb, pc) = (gpu.upload(&a), gpu.upload(&b), gpu.upload(&c));
            let (alpha, beta) = (2.0_f32, -1.0_f32);
            // SAFETY: memory of these sizes
            let code = unsafe {
                library::cublasSgemmStridedBatched(
                    handle,
                    ta.into(),
                    tb.into(),
                    int(m),
                    int(n),
                    int(k),
                    &alpha,
                    pa,
                    int(lda),
                    int(sa).into(),
                    pb,
                    int(ldb),
                    int(sb).into(),
                    &beta,
                    pc,
                    int(ldc),
                    int(sc).into(),
                    int(count),
                )
            };
            assert_eq!(code, 0, "{}", gpu.fault());
            let got: Vec<f32> = gpu.download(pc, sc * count);
            let mut expected = c.clone();
            for batch in 0..count {
                for column in 0..n {
                    for row in 0..m {
                        let sum: f32 = (0..k)
                            .map(|i| {
                                let at = batch * sa + if ta { row * lda + i } else { i * lda + row };
                                let bt = batch * sb + if tb { i * ldb + column } else { column * ldb + i };
                                a[at] * b[bt]
                            })
                            .sum();
                        let ct = batch * sc + column * ldc + row;
                        expected[ct] = alpha * sum + beta * c[ct];
                    }
                }
            }
            assert_eq!(got, expected, "{ta} {tb} {extra}");
        }
    }
}

#[test]
fn leading_dimensions_that_are_too_small_are_refused() {
    let gpu = Gpu::new();
    let handle = handle();
    let memory = gpu.upload(&[1.0_f32; 64]);
    let one = 1.0_f32;
    let call = |ta, tb, lda, ldb, ldc| {
        // SAFETY: nothing is computed beyond 64 elements
        unsafe {
            library::cublasSgemmStridedBatched(
                handle, ta, tb, 3, 4, 5, &one, memory, lda, 0, memory, ldb, 0, &one, memory, ldc, 0, 1,
            )
        }
    };
    assert_eq!(call(0, 0, 3, 5, 3), 0, "{}", gpu.fault());
    assert_eq!(call(0, 0, 2, 5, 3), 7);
    assert!(gpu.fault().contains("leading dimension 2 of A, which has 3 rows"), "{}", gpu.fault());
    assert_eq!(call(1, 0, 4, 5, 3), 7);
    assert_eq!(call(0, 0, 3, 4, 3), 7);
    assert_eq!(call(0, 1, 3, 3, 3), 7);
    assert_eq!(call(0, 0, 3, 5, 2), 7);
}

#[test]
fn bf16_is_summed_in_f32_and_c_is_not_read_for_beta_0() {
    let gpu = Gpu::new();
    let handle = handle();
    let a: Vec<bf16> = numbers(6, 1).into_iter().map(bf16::from_f32).collect();
    let b: Vec<bf16> = numbers(6, 2).into_iter().map(bf16::from_f32).collect();
    let (pa, pb, pc) = (gpu.upload(&a), gpu.upload(&b), gpu.allocate(16));
    let (one, zero) = (1.0_f32, 0.0_f32);
    // SAFETY: A is 2 x 3, B is 3 x 2, C is 2 x 2 in f32, and the scalars too
    let code = unsafe {
        library::cublasGemmEx(
            handle,
            0,
            0,
            2,
            2,
            3,
            ptr::from_ref(&one).cast(),
            pa,
            14,
            2,
            pb,
            14,
            3,
            ptr::from_ref(&zero).cast(),
            pc,
            0,
            2,
            68,
            -1,
        )
    };
    assert_eq!(code, 0, "{}", gpu.fault());
    let expected: Vec<f32> = (0..4)
        .map(|at| (0..3).map(|i| a[i * 2 + at % 2].to_f32() * b[at / 2 * 3 + i].to_f32()).sum())
        .collect();
    assert_eq!(gpu.download::<f32>(pc, 4), expected);
}
