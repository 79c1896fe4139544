//! The kernels: a function for each that launches it, with the types of its parameters as the `.cu` file has them.

use crate::device::Device;
use crate::grid::Grid;
use crate::strided::{Extents, Steps};
use cudarc::driver::sys::CUfunction;
use std::ffi::c_void;

/// An address on the device.
pub(crate) type Ptr = u64;

/// How a matrix lies: steps from row to row, column to column, and matrix to matrix of a batch.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Layout {
    pub(crate) offset: u64,
    pub(crate) row: u64,
    pub(crate) column: u64,
    pub(crate) batch: u64,
}

/// The extents of a pooling.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Pool {
    pub(crate) hw: [u32; 2],
    pub(crate) out_hw: [u32; 2],
    pub(crate) kernel: [u32; 2],
    pub(crate) stride: [u32; 2],
    pub(crate) padding: [u32; 2],
}

/// The extents of one group of a convolution of some images.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Conv {
    pub(crate) c: u32,
    pub(crate) o: u32,
    pub(crate) c_group: u32,
    pub(crate) o_group: u32,
    pub(crate) c_first: u32,
    pub(crate) o_first: u32,
    pub(crate) hw: [u32; 2],
    pub(crate) out_hw: [u32; 2],
    pub(crate) kernel: [u32; 2],
    pub(crate) stride: [u32; 2],
    pub(crate) padding: [u32; 2],
    pub(crate) images: u32,
}

/// The extents of multi-head attention.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Attention {
    pub(crate) batch: u32,
    pub(crate) time: u32,
    pub(crate) heads: u32,
    pub(crate) dim: u32,
    pub(crate) scale: f32,
}

macro_rules! kernels {
    ($(fn $name:ident($($arg:ident: $ty:ty),* $(,)?);)*) => {
        /// The kernels of a loaded module.
        #[derive(Debug)]
        pub(crate) struct Kernels {
            $($name: CUfunction,)*
        }

        impl Kernels {
            /// Looks all kernels up by their names.
            pub(crate) fn find<E>(mut get: impl FnMut(&'static str) -> Result<CUfunction, E>) -> Result<Self, E> {
                Ok(Kernels { $($name: get(stringify!($name))?,)* })
            }
        }

        impl Device {
            $(
                #[allow(clippy::too_many_arguments, reason = "as many as the kernel has")]
                pub(crate) fn $name(&self, grid: Grid, $($arg: $ty),*) {
                    let mut args: [*mut c_void; _] = [$((&raw const $arg).cast_mut().cast()),*];
                    self.launch(stringify!($name), self.kernels().$name, grid, &mut args);
                }
            )*
        }

        /// The name of each kernel, and how many bytes each of its parameters has.
        #[cfg(test)]
        pub(crate) const SIGNATURES: &[(&str, &[usize])] = &[$((stringify!($name), &[$(size_of::<$ty>()),*])),*];
    };
}

kernels! {
    fn fill(out: Ptr, value: f32, n: u64);
    fn unary(kind: u32, x: Ptr, out: Ptr, n: u64);
    fn unary_grad(kind: u32, x: Ptr, dy: Ptr, add: u32, out: Ptr, n: u64);
    fn unary_grad2(kind: u32, x: Ptr, dx: Ptr, dy: Ptr, add: u32, out: Ptr, n: u64);
    fn affine(alpha: f32, beta: f32, x: Ptr, add: u32, y: Ptr, n: u64);
    fn binary(kind: u32, a: Ptr, b: Ptr, add: u32, out: Ptr, n: u64);
    fn binary_strided(
        kind: u32, a: Ptr, b: Ptr, extents: Extents, of_a: Steps, of_b: Steps, add: u32, out: Ptr, n: u32,
    );
    fn copy_strided(x: Ptr, extents: Extents, from: Steps, to: Steps, add: u32, out: Ptr, n: u32);
    fn dropout(
        key0: u32, key1: u32, upper0: u32, upper1: u32, first: u64, p: f64, scale: f32, x: Ptr, add: u32, out: Ptr,
        n: u64,
    );

    fn sum_rows(x: Ptr, rows: u64, len: u64, parts: u64, add: u32, out: Ptr);
    fn sum_columns(x: Ptr, outer: u64, len: u64, inner: u64, parts: u64, add: u32, out: Ptr);
    fn max_axis(x: Ptr, outer: u64, len: u64, inner: u64, out: Ptr);
    fn moments(x: Ptr, n: u64, runs: u64, out: Ptr);
    fn row_dots(a: Ptr, b: Ptr, rows: u64, d: u64, step_b: u64, runs: u64, out: Ptr);

    fn bias_act(rows: u64, n: u64, bias: Ptr, act: u32, sums: Ptr, y: Ptr);
    fn matmul_any(
        batch: u32, m: u32, n: u32, k: u32, a: Ptr, b: Ptr, c: Ptr, of_a: Layout, of_b: Layout, of_c: Layout, add: u32,
        sums: u32,
    );

    fn cross_entropy(rows: u64, d: u64, logits: Ptr, labels: Ptr, loss: Ptr, lse: Ptr, hits: Ptr);
    fn cross_entropy_grad(rows: u64, d: u64, logits: Ptr, labels: Ptr, lse: Ptr, dloss: Ptr, add: u32, dx: Ptr);
    fn softmax(rows: u64, d: u64, x: Ptr, y: Ptr);
    fn softmax_grad(rows: u64, d: u64, y: Ptr, dy: Ptr, add: u32, dx: Ptr);
    fn log_softmax(rows: u64, d: u64, x: Ptr, y: Ptr);
    fn log_softmax_grad(rows: u64, d: u64, y: Ptr, dy: Ptr, add: u32, dx: Ptr);

    fn attention_32(a: Attention, qkv: Ptr, y: Ptr, lse: Ptr);
    fn attention_64(a: Attention, qkv: Ptr, y: Ptr, lse: Ptr);
    fn attention_128(a: Attention, qkv: Ptr, y: Ptr, lse: Ptr);
    fn attention_dq_32(
        a: Attention, qkv: Ptr, y: Ptr, lse: Ptr, dy: Ptr, along: Ptr, add: u32, dqkv: Ptr,
    );
    fn attention_dq_64(
        a: Attention, qkv: Ptr, y: Ptr, lse: Ptr, dy: Ptr, along: Ptr, add: u32, dqkv: Ptr,
    );
    fn attention_dq_128(
        a: Attention, qkv: Ptr, y: Ptr, lse: Ptr, dy: Ptr, along: Ptr, add: u32, dqkv: Ptr,
    );
    fn attention_dkv_32(a: Attention, qkv: Ptr, lse: Ptr, dy: Ptr, along: Ptr, add: u32, dqkv: Ptr);
    fn attention_dkv_64(a: Attention, qkv: Ptr, lse: Ptr, dy: Ptr, along: Ptr, add: u32, dqkv: Ptr);
    fn attention_dkv_128(a: Attention, qkv: Ptr, lse: Ptr, dy: Ptr, along: Ptr, add: u32, dqkv: Ptr);

    fn layer_norm(rows: u64, d: u64, eps: f32, x: Ptr, gain: Ptr, bias: Ptr, y: Ptr, stats: Ptr);
    fn layer_norm_held(rows: u64, d: u64, eps: f32, x: Ptr, gain: Ptr, bias: Ptr, y: Ptr, stats: Ptr);
    fn rms_norm(rows: u64, d: u64, eps: f32, x: Ptr, gain: Ptr, y: Ptr, stats: Ptr);
    fn norm_grad(rows: u64, d: u64, per_row: u32, x: Ptr, gain: Ptr, stats: Ptr, dy: Ptr, add: u32, dx: Ptr);
    fn norm_gains(
        samples: u64, steps: u64, d: u64, parts: u64, per_row: u32, x: Ptr, stats: Ptr, dy: Ptr, add: u32, gains: Ptr,
    );
    fn channel_sums(n: u32, c: u32, hw: u32, x: Ptr, y: Ptr, sums: Ptr);
    fn channel_affine(planes: u64, c: u64, hw: u64, k: Ptr, x: Ptr, y: Ptr, add: u32, out: Ptr);

    fn gather_rows(n: u64, d: u64, rows: u64, table: Ptr, ids: Ptr, y: Ptr);
    fn scatter_rows(n: u64, rows: u64, d: u64, each: u32, ids: Ptr, dy: Ptr, add: u32, table: Ptr);
    fn scatter_parts(n: u64, rows: u32, d: u64, parts: u64, ids: Ptr, dy: Ptr, out: Ptr);
    fn one_hot(n: u64, d: u64, value: f32, ids: Ptr, out: Ptr);

    fn max_pool(p: Pool, len: u32, x: Ptr, y: Ptr, argmax: Ptr);
    fn max_pool_grad(p: Pool, len: u32, argmax: Ptr, dy: Ptr, dx: Ptr);
    fn max_pool_tangent(p: Pool, len: u32, argmax: Ptr, x: Ptr, y: Ptr);
    fn avg_pool(p: Pool, len: u32, scale: f32, x: Ptr, y: Ptr);
    fn avg_pool_grad(p: Pool, len: u32, scale: f32, dy: Ptr, add: u32, dx: Ptr);

    fn im2col(g: Conv, x: Ptr, columns: Ptr);
    fn col2im(g: Conv, columns: Ptr, add: u32, dx: Ptr);
    fn conv_finish(g: Conv, act: u32, sums: Ptr, bias: Ptr, y: Ptr, argmax: Ptr);
    fn conv_spread(g: Conv, act: u32, dy: Ptr, y: Ptr, argmax: Ptr, dsums: Ptr, totals: Ptr);

    fn sgd(lr: f32, keep: f32, scale: f32, p: Ptr, g: Ptr, n: u64);
    fn sgd_momentum(
        lr: f32, momentum: f32, nesterov: u32, keep: f32, scale: f32, p: Ptr, g: Ptr, v: Ptr, n: u64,
    );
    fn adamw(
        rate: f32, keep: f32, scale: f32, fresh1: f32, beta2: f32, fresh2: f32, root_correction: f32, eps: f32, p: Ptr,
        g: Ptr, m: Ptr, v: Ptr, n: u64,
    );
    fn adagrad(lr: f32, eps: f32, keep: f32, scale: f32, p: Ptr, g: Ptr, s: Ptr, n: u64);

    fn plane_sums(channels: u64, images: u64, cells: u64, dsums: Ptr, step: u64, sums: Ptr);
    fn gather_norms(positions: u64, steps: u64, d: u64, ids: Ptr, dy: Ptr, out: Ptr);

    fn gram(rows: Ptr, n: u32, d: u64, runs: u64, out: Ptr);
    fn weighted_sum(rows: Ptr, weights: Ptr, n: u32, d: u64, out: Ptr);
    fn columns(
        rows: Ptr, n: u32, d: u64, statistic: u32, count: u32, comparators: Ptr, steps: u32, out: Ptr, beyond: Ptr,
    );
}

#[cfg(test)]
mod tests {
    use super::SIGNATURES;
    use crate::image::{PTX, unpacked};

    /// The bytes of each parameter of an entry, by PTX: `.param .u64 name` or `.param .align 8 .b8 name[56]`.
    fn parameters(ptx: &str, name: &str) -> Vec<usize> {
        let (_, rest) =
            ptx.split_once(&format!(".entry {name}(")).unwrap_or_else(|| panic!("no kernel {name}"));
        let (list, _) = rest.split_once(')').expect("the end of a list");
        let bytes = |parameter: &str| {
            let words: Vec<&str> = parameter.split_whitespace().collect();
            let kind = words.iter().find(|word| [".u", ".f", ".b", ".s"].iter().any(|k| word.starts_with(k)));
            let bits: usize = kind.expect("a type")[2..].parse().expect("its width");
            let count =
                parameter.split_once('[').map(|(_, n)| n.trim_end_matches(']').parse().expect("a length"));
            bits / 8 * count.unwrap_or(1)
        };
        list.split(',').map(str::trim).filter(|p| !p.is_empty()).map(bytes).collect()
    }

    /// Neither the driver nor cudarc can know what a kernel was given: only this list is between them.
    #[test]
    fn every_launcher_has_the_parameters_of_its_kernel() {
        for (ptx, version) in PTX {
            let text = String::from_utf8(unpacked(ptx)).expect("PTX is text");
            for (name, sizes) in SIGNATURES {
                assert_eq!(parameters(&text, name), *sizes, "{name} of compute capability {version:?}");
            }
            assert_eq!(text.matches(".entry ").count(), SIGNATURES.len(), "a kernel without a launcher");
        }
    }
}
