//! Launches of kernels.

use super::Code;
use super::context::working;
use super::device::{code, limit, put};
use super::module::{Function, function};
use super::stream::{StreamHandle, draw, find, submit_once};
use super::table::Handle;
use crate::config;
use crate::exec::arena::region;
use crate::exec::{Kernel, Launch, run};
use crate::fault::{Fault, refuse};
use std::ffi::{c_int, c_uint, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

/// How many kernels each device was given.
static LAUNCHES: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

/// The most threads of a block of a kernel.
pub(super) fn most_threads(kernel: &Kernel) -> u32 {
    let bound = kernel.exact_threads.or(kernel.most_threads);
    bound.map_or(limit::THREADS, |axes| axes.iter().product::<u32>().min(limit::THREADS))
}

/// Whether a device can run a kernel so.
fn check(function: &Function, grid: [u32; 3], block: [u32; 3], dynamic: u32) -> Result<(), Code> {
    let kernel = &function.kernel;
    let refused =
        |code: Code, what: String| Err(refuse(code, format!("launch of kernel {}: {what}", kernel.name)));
    let beyond = |have: [u32; 3], most: [u32; 3]| have.iter().zip(most).any(|(&n, most)| n == 0 || n > most);
    if beyond(grid, limit::GRID) {
        return refused(
            Code::INVALID_VALUE,
            format!("a grid of {grid:?} blocks, 1 to {:?} along each axis", limit::GRID),
        );
    }
    let threads = block.iter().try_fold(1_u32, |product, &n| product.checked_mul(n)).unwrap_or(u32::MAX);
    if beyond(block, limit::BLOCK) || threads > limit::THREADS {
        return refused(
            Code::INVALID_VALUE,
            format!("a block of {block:?} threads, {} at most", limit::THREADS),
        );
    }
    if threads > most_threads(kernel) || kernel.exact_threads.is_some_and(|exact| exact != block) {
        let bound = kernel.exact_threads.or(kernel.most_threads);
        return refused(
            Code::LAUNCH_OUT_OF_RESOURCES,
            format!("a block of {block:?} threads, compiled for {bound:?}"),
        );
    }
    let most = function.most_dynamic.load(Ordering::Relaxed);
    if dynamic > most {
        let fixed = kernel.shared_bytes;
        return refused(
            Code::INVALID_VALUE,
            format!(
                "{dynamic} bytes of dynamic shared memory, {most} at most beside {fixed}: more must be opted in to"
            ),
        );
    }
    Ok(())
}

/// # Safety
/// `values` has a pointer to each parameter.
unsafe fn params(kernel: &Kernel, values: *mut *mut c_void) -> Result<Vec<u8>, Code> {
    let mut bytes = vec![0; kernel.param_bytes];
    if values.is_null() && !kernel.params.is_empty() {
        return Err(refuse(
            Code::INVALID_VALUE,
            format!("launch of kernel {} without parameters", kernel.name),
        ));
    }
    for (index, param) in kernel.params.iter().enumerate() {
        let (start, length) = (param.offset as usize, param.bytes as usize);
        // SAFETY: as the caller promises
        let value = unsafe { *values.add(index) };
        if value.is_null() {
            let what = format!("launch of kernel {}: parameter {index} is missing", kernel.name);
            return Err(refuse(Code::INVALID_VALUE, what));
        }
        // SAFETY: as the caller promises, it has the bytes that the kernel declares
        bytes[start..start + length]
            .copy_from_slice(unsafe { std::slice::from_raw_parts(value.cast::<u8>(), length) });
    }
    Ok(bytes)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuLaunchKernel(
    handle: Handle,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    dynamic_shared: c_uint,
    stream: StreamHandle,
    values: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Code {
    code(working().and_then(|_| {
        let function = function(handle)?;
        let device = find(stream)?.device;
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        check(&function, grid, block, dynamic_shared)?;
        if !extra.is_null() {
            return Err(refuse(Code::NOT_SUPPORTED, "parameters in a buffer"));
        }
        // SAFETY: as this library's callers promise
        let params = unsafe { params(&function.kernel, values) }?;
        let region = region(device)?;
        let launch = LAUNCHES.get(device).map_or(0, |launches| launches.fetch_add(1, Ordering::Relaxed)) + 1;
        submit_once(stream, move || {
            let config = config::get();
            if config.lose.is_some_and(|(lost, at)| lost as usize == device && at == launch) {
                let what = format!("device {device} is lost at launch {launch}, as the test wants it");
                return Err(Fault::new(Code::LAUNCH_FAILED, what));
            }
            let launch = Launch {
                grid,
                block,
                dynamic_shared,
                params: &params,
                region,
                seed: draw(),
                threads: config.threads,
                steps: config.steps,
            };
            run(&function.kernel, &launch)
        })
    }))
}

/// How many blocks of a kernel a multiprocessor holds, by threads and shared memory alone.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
    blocks: *mut c_int,
    handle: Handle,
    block_size: c_int,
    dynamic_shared: usize,
) -> Code {
    code(function(handle).and_then(|function| {
        let threads = usize::try_from(block_size).ok().filter(|&n| n > 0).ok_or(Code::INVALID_VALUE)?;
        let shared = function.kernel.shared_bytes as usize + dynamic_shared;
        let by_shared = limit::SHARED_OPT_IN as usize / shared.max(1);
        let found = (2048 / threads).min(by_shared).min(32);
        // SAFETY: as this library's callers promise
        unsafe { put(blocks, c_int::try_from(found).unwrap_or_default()) }
    }))
}
