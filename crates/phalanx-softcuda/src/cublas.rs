//! Products of matrices: what `libcublas.so` exports, of it what phalanx calls.
//!
//! Matrices are stored by columns. Results are written in stream order; sums run over the inner dimension from its beginning, in
//! f32 or f64, where the real library has an order of its own. Pointers are null or valid, as for the driver.

mod gemm;

use crate::driver::{StreamHandle, current, submit_once};
use crate::fault::{Fault, report};
use gemm::{Cut, Element, Matrix, Product, Scalar};
use std::collections::BTreeMap;
use std::ffi::{c_int, c_longlong, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A `cublasStatus_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Status(u32);

impl Status {
    const SUCCESS: Status = Status(0);
    const NOT_INITIALIZED: Status = Status(1);
    const INVALID_VALUE: Status = Status(7);
    const EXECUTION_FAILED: Status = Status(13);
    const NOT_SUPPORTED: Status = Status(15);
}

/// What a handle is set to.
#[derive(Clone, Copy, Debug)]
struct Settings {
    stream: usize,
    math_mode: c_int,
    pointer_mode: c_int,
}

type Handle = *mut c_void;

/// Products of a call: some versions of the real library fail beyond it.
const MOST_PRODUCTS: usize = 65_535;

/// The version of the library whose interface this is.
const VERSION: c_int = 120_901;

static HANDLES: Mutex<(usize, BTreeMap<usize, Settings>)> = Mutex::new((0x10, BTreeMap::new()));

fn handles() -> MutexGuard<'static, (usize, BTreeMap<usize, Settings>)> {
    HANDLES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks at or changes what a handle is set to.
fn with<T>(handle: Handle, f: impl FnOnce(&mut Settings) -> T) -> Result<T, Status> {
    handles().1.get_mut(&handle.addr()).map(f).ok_or(Status::NOT_INITIALIZED)
}

fn status(result: Result<(), Status>) -> Status {
    result.err().unwrap_or(Status::SUCCESS)
}

/// Refuses a call, and says why.
fn refuse<T>(status: Status, what: impl Into<String>) -> Result<T, Status> {
    report(&Fault::new(crate::driver::Code::INVALID_VALUE, format!("cublas: {}", what.into())));
    Err(status)
}

/// # Safety
/// `to` is null or valid.
unsafe fn put<T>(to: *mut T, value: T) -> Result<(), Status> {
    if to.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    // SAFETY: not null
    unsafe { to.write(value) };
    Ok(())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cublasCreate_v2(handle: *mut Handle) -> Status {
    if current().is_err() {
        return Status::NOT_INITIALIZED;
    }
    let mut handles = handles();
    handles.0 += 0x10;
    let number = handles.0;
    handles.1.insert(number, Settings { stream: 0, math_mode: 0, pointer_mode: 0 });
    // SAFETY: as this library's callers promise
    status(unsafe { put(handle, std::ptr::without_provenance_mut(number)) })
}

#[unsafe(no_mangle)]
extern "C" fn cublasDestroy_v2(handle: Handle) -> Status {
    if handles().1.remove(&handle.addr()).is_some() { Status::SUCCESS } else { Status::NOT_INITIALIZED }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cublasGetVersion_v2(_handle: Handle, version: *mut c_int) -> Status {
    // SAFETY: as this library's callers promise
    status(unsafe { put(version, VERSION) })
}

#[unsafe(no_mangle)]
extern "C" fn cublasSetStream_v2(handle: Handle, stream: StreamHandle) -> Status {
    status(with(handle, |settings| settings.stream = stream.expose_provenance()))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cublasGetStream_v2(handle: Handle, stream: *mut StreamHandle) -> Status {
    status(with(handle, |settings| settings.stream).and_then(|number| {
        // SAFETY: as this library's callers promise
        unsafe { put(stream, std::ptr::with_exposed_provenance_mut(number)) }
    }))
}

/// Memory that the real library works in: none is needed here, so that it is only checked.
#[unsafe(no_mangle)]
extern "C" fn cublasSetWorkspace_v2(handle: Handle, workspace: *mut c_void, bytes: usize) -> Status {
    status(with(handle, |_| ()).and_then(|()| {
        if bytes > 0 && !workspace.addr().is_multiple_of(256) {
            return refuse(Status::INVALID_VALUE, "a workspace that is not aligned to 256 bytes");
        }
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cublasSetMathMode(handle: Handle, mode: c_int) -> Status {
    status(with(handle, |settings| settings.math_mode = mode))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cublasGetMathMode(handle: Handle, mode: *mut c_int) -> Status {
    status(with(handle, |settings| settings.math_mode).and_then(|found| {
        // SAFETY: as this library's callers promise
        unsafe { put(mode, found) }
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cublasSetPointerMode_v2(handle: Handle, mode: c_int) -> Status {
    status(with(handle, |settings| settings.pointer_mode = mode))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cublasGetPointerMode_v2(handle: Handle, mode: *mut c_int) -> Status {
    status(with(handle, |settings| settings.pointer_mode).and_then(|found| {
        // SAFETY: as this library's callers promise
        unsafe { put(mode, found) }
    }))
}

/// What a product of matrices is called with, but for its scalars.
struct Call {
    transposed: [c_int; 2],
    /// Rows of C, columns of C, and the inner dimension.
    sizes: [c_int; 3],
    a: Argument,
    b: Argument,
    c: Argument,
    count: c_int,
}

/// A matrix as it is given.
struct Argument {
    address: u64,
    element: Option<Element>,
    leading: c_int,
    stride: c_longlong,
}

fn argument(
    address: *const c_void,
    element: Option<Element>,
    leading: c_int,
    stride: c_longlong,
) -> Argument {
    Argument { address: address.addr() as u64, element, leading, stride }
}

/// Checks a call and puts it into the handle's stream.
///
/// # Safety
/// The scalars are null or valid for what computes in `double` or single precision.
unsafe fn product(
    handle: Handle,
    call: &Call,
    alpha: *const c_void,
    beta: *const c_void,
    (double, cut): (bool, Cut),
) -> Result<(), Status> {
    let settings = with(handle, |settings| *settings)?;
    if settings.pointer_mode != 0 {
        return refuse(Status::NOT_SUPPORTED, "scalars in device memory");
    }
    if alpha.is_null() || beta.is_null() {
        return refuse(Status::INVALID_VALUE, "a scalar is missing");
    }
    // SAFETY: not null, and so valid
    let [alpha, beta] = [alpha, beta].map(|scalar| unsafe {
        if double {
            Scalar::Double(scalar.cast::<f64>().read())
        } else {
            Scalar::Single(scalar.cast::<f32>().read())
        }
    });
    let Ok([m, n, k]) = call
        .sizes
        .map(usize::try_from)
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .map(|v| [v[0], v[1], v[2]])
    else {
        return refuse(Status::INVALID_VALUE, format!("sizes {:?}", call.sizes));
    };
    let Ok(count) = usize::try_from(call.count) else {
        return refuse(Status::INVALID_VALUE, format!("{} products", call.count));
    };
    if count > MOST_PRODUCTS {
        return refuse(Status::NOT_SUPPORTED, format!("{count} products at once, {MOST_PRODUCTS} at most"));
    }
    let mut transposed = [false; 2];
    for (flag, &given) in transposed.iter_mut().zip(&call.transposed) {
        *flag = match given {
            0 => false,
            1 | 2 => true,
            _ => return refuse(Status::INVALID_VALUE, format!("transposition {given}")),
        };
    }
    let matrix = |name: &str, argument: &Argument, rows: usize, columns: usize| -> Result<Matrix, Status> {
        let Some(element) = argument.element else {
            return refuse(Status::NOT_SUPPORTED, format!("the type of {name}"));
        };
        match usize::try_from(argument.leading) {
            Ok(leading) if leading >= rows.max(1) => Ok(Matrix {
                address: argument.address,
                element,
                leading,
                stride: argument.stride,
                rows,
                columns,
            }),
            _ => refuse(
                Status::INVALID_VALUE,
                format!("leading dimension {} of {name}, which has {rows} rows", argument.leading),
            ),
        }
    };
    let swap = |flag: bool, rows: usize, columns: usize| if flag { (columns, rows) } else { (rows, columns) };
    let (a_rows, a_columns) = swap(transposed[0], m, k);
    let (b_rows, b_columns) = swap(transposed[1], k, n);
    let product = Product {
        a: matrix("A", &call.a, a_rows, a_columns)?,
        b: matrix("B", &call.b, b_rows, b_columns)?,
        c: matrix("C", &call.c, m, n)?,
        transposed,
        inner: k,
        alpha,
        beta,
        count,
        cut,
    };
    if m == 0 || n == 0 || count == 0 {
        return Ok(());
    }
    let stream = std::ptr::with_exposed_provenance_mut(settings.stream);
    submit_once(stream, move || product.run()).map_err(|_| Status::EXECUTION_FAILED)
}

macro_rules! gemm {
    ($plain:ident, $batched:ident, $number:ty, $element:expr, $double:literal) => {
        /// A product of two matrices.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $plain(
            handle: Handle,
            a_transposed: c_int,
            b_transposed: c_int,
            m: c_int,
            n: c_int,
            k: c_int,
            alpha: *const $number,
            a: *const $number,
            lda: c_int,
            b: *const $number,
            ldb: c_int,
            beta: *const $number,
            c: *mut $number,
            ldc: c_int,
        ) -> Status {
            let call = Call {
                transposed: [a_transposed, b_transposed],
                sizes: [m, n, k],
                a: argument(a.cast(), Some($element), lda, 0),
                b: argument(b.cast(), Some($element), ldb, 0),
                c: argument(c.cast(), Some($element), ldc, 0),
                count: 1,
            };
            // SAFETY: as this library's callers promise
            status(unsafe { product(handle, &call, alpha.cast(), beta.cast(), ($double, Cut::Nothing)) })
        }

        /// Products of matrices that lie one stride apart.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $batched(
            handle: Handle,
            a_transposed: c_int,
            b_transposed: c_int,
            m: c_int,
            n: c_int,
            k: c_int,
            alpha: *const $number,
            a: *const $number,
            lda: c_int,
            a_stride: c_longlong,
            b: *const $number,
            ldb: c_int,
            b_stride: c_longlong,
            beta: *const $number,
            c: *mut $number,
            ldc: c_int,
            c_stride: c_longlong,
            count: c_int,
        ) -> Status {
            let call = Call {
                transposed: [a_transposed, b_transposed],
                sizes: [m, n, k],
                a: argument(a.cast(), Some($element), lda, a_stride),
                b: argument(b.cast(), Some($element), ldb, b_stride),
                c: argument(c.cast(), Some($element), ldc, c_stride),
                count,
            };
            // SAFETY: as this library's callers promise
            status(unsafe { product(handle, &call, alpha.cast(), beta.cast(), ($double, Cut::Nothing)) })
        }
    };
}

gemm!(cublasSgemm_v2, cublasSgemmStridedBatched, f32, Element::F32, false);
gemm!(cublasDgemm_v2, cublasDgemmStridedBatched, f64, Element::F64, true);

/// Whether a `cublasComputeType_t` computes in f64, and to what it rounds operands, for those that are known.
fn computes_in(compute: c_int) -> Result<(bool, Cut), Status> {
    match compute {
        // in f32: exact products, pedantic, and with operands of fewer bits
        68 | 69 => Ok((false, Cut::Nothing)),
        74 => Ok((false, Cut::F16)),
        75 => Ok((false, Cut::Bf16)),
        77 => Ok((false, Cut::Tf32)),
        70 | 71 => Ok((true, Cut::Nothing)),
        _ => refuse(Status::NOT_SUPPORTED, format!("compute type {compute}")),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cublasGemmEx(
    handle: Handle,
    a_transposed: c_int,
    b_transposed: c_int,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: *const c_void,
    a: *const c_void,
    a_type: c_int,
    lda: c_int,
    b: *const c_void,
    b_type: c_int,
    ldb: c_int,
    beta: *const c_void,
    c: *mut c_void,
    c_type: c_int,
    ldc: c_int,
    compute: c_int,
    algorithm: c_int,
) -> Status {
    // SAFETY: as this library's callers promise
    unsafe {
        cublasGemmStridedBatchedEx(
            handle,
            a_transposed,
            b_transposed,
            m,
            n,
            k,
            alpha,
            a,
            a_type,
            lda,
            0,
            b,
            b_type,
            ldb,
            0,
            beta,
            c,
            c_type,
            ldc,
            0,
            1,
            compute,
            algorithm,
        )
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cublasGemmStridedBatchedEx(
    handle: Handle,
    a_transposed: c_int,
    b_transposed: c_int,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: *const c_void,
    a: *const c_void,
    a_type: c_int,
    lda: c_int,
    a_stride: c_longlong,
    b: *const c_void,
    b_type: c_int,
    ldb: c_int,
    b_stride: c_longlong,
    beta: *const c_void,
    c: *mut c_void,
    c_type: c_int,
    ldc: c_int,
    c_stride: c_longlong,
    count: c_int,
    compute: c_int,
    _algorithm: c_int,
) -> Status {
    let call = Call {
        transposed: [a_transposed, b_transposed],
        sizes: [m, n, k],
        a: argument(a, Element::of(a_type), lda, a_stride),
        b: argument(b, Element::of(b_type), ldb, b_stride),
        c: argument(c, Element::of(c_type), ldc, c_stride),
        count,
    };
    status(computes_in(compute).and_then(|(double, cut)| {
        if a_type != b_type || double != (a_type == 1) || double != (c_type == 1) {
            return refuse(
                Status::NOT_SUPPORTED,
                format!("types {a_type}, {b_type}, {c_type} with compute type {compute}"),
            );
        }
        // SAFETY: as this library's callers promise
        unsafe { product(handle, &call, alpha, beta, (double, cut)) }
    }))
}
