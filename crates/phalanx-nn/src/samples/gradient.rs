//! The gradient of one sample at one operator: what the cheaper formulas stand for.

use crate::NnError;
use crate::observe::Parameterised;
use crate::params::ParamId;
use crate::pool::Pool;
use phalanx_tensor::op::{ConvSpec, Mat, MatmulSpec, SampleRows, Strided};
use phalanx_tensor::{Backend, Shape, Write};

/// Adds the gradient of sample `i` with respect to `param` to `out`, which has the parameter's length.
pub(super) fn add_sample_gradient<B: Backend>(
    backend: &B,
    pool: &mut Pool<B>,
    op: &Parameterised<'_, B>,
    param: ParamId,
    (rows, i): (SampleRows, usize),
    out: B::ViewMut<'_>,
) -> Result<(), NnError> {
    let steps = rows.steps;
    let part = |view, width: usize| (view, i * steps * width..(i + 1) * steps * width);
    match *op {
        Parameterised::Linear { weight, x, dy, nk: [n, k], .. } if param == weight => {
            let spec = MatmulSpec {
                batch: 1,
                m: n,
                n: k,
                k: steps,
                a: Mat { offset: i * steps * n, ..Mat::dense(steps, n).t() },
                b: Mat { offset: i * steps * k, ..Mat::dense(steps, k) },
                c: Mat::dense(n, k),
            };
            backend.matmul(&spec, dy, x, Write::Add, out);
        }
        Parameterised::Linear { dy, nk: [n, _], .. } => {
            let (dy, range) = part(dy, n);
            backend.sum_axis(backend.part(&dy, range), 1, steps, n, Write::Add, out);
        }
        Parameterised::Conv2d { weight, spec, act, x, y, argmax, dy, .. } => {
            let one = ConvSpec { n: 1, ..spec };
            let image = one.input_len();
            let [oh, ow] = act.out_hw(spec.out_hw());
            let cells = spec.o * oh * ow;
            let x = backend.part(&x, i * image..(i + 1) * image);
            let output = i * cells..(i + 1) * cells;
            let (y, dy) = (backend.part(&y, output.clone()), backend.part(&dy, output.clone()));
            let argmax = argmax.as_ref().map(|a| backend.index_part(a, output));
            let (dw, db) = if param == weight {
                (Some((Write::Add, out)), None)
            } else {
                (None, Some((Write::Add, out)))
            };
            // The weight is read for the gradient of the input alone, which is not asked for.
            let weight_len = one.weight_len();
            let unread = pool.take(backend, weight_len)?;
            let w = backend.view(&unread.buf, 0..weight_len);
            backend.conv2d_grad(&one, act, x, w, y, argmax, dy, dw, db, None);
            pool.give(unread);
        }
        Parameterised::Embedding { ids, dy, d, .. } => {
            let ids = backend.index_part(&ids, i * steps..(i + 1) * steps);
            let (dy, range) = part(dy, d);
            backend.scatter_rows(d, ids, backend.part(&dy, range), Write::Add, out);
        }
        Parameterised::Norm { gain, bias, x, stats, dy, d, .. } if param == gain => {
            let one = SampleRows { samples: 1, steps };
            let per_row = if bias.is_some() { 2 } else { 1 };
            let (x, range) = part(x, d);
            let x = backend.part(&x, range.clone());
            let dy = backend.part(&dy, range);
            let (stats, range) = part(stats, per_row);
            let stats = backend.part(&stats, range);
            let mut gains = pool.take(backend, d)?;
            backend.norm_gains(one, d, x, stats, dy, backend.view_mut(&mut gains.buf, 0..d));
            backend.affine(1.0, 0.0, backend.view(&gains.buf, 0..d), Write::Add, out);
            pool.give(gains);
        }
        Parameterised::Norm { dy, d, .. } => {
            let (dy, range) = part(dy, d);
            backend.sum_axis(backend.part(&dy, range), 1, steps, d, Write::Add, out);
        }
        Parameterised::Offset { at, dy, len, .. } => {
            let (dy, range) = part(dy, len);
            let mut sum = pool.take(backend, len)?;
            let view = backend.view_mut(&mut sum.buf, 0..len);
            backend.sum_axis(backend.part(&dy, range), 1, steps, len, Write::Set, view);
            let from = Strided::dense(Shape::from([len]));
            let to = Strided { offset: at, ..from };
            backend.copy_strided((backend.view(&sum.buf, 0..len), from), Write::Add, (out, to));
            pool.give(sum);
        }
    }
    Ok(())
}
