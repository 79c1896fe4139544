//! Convolutions of drawn extents: against the sums that define them, and each fused form against its parts.

use phalanx_nn::{
    ConvOptions, FlatSink, Graph, Init, Mode, NnError, ParamBuilder, ParamId, Var, hessian_vector_product,
};
use phalanx_tensor::{Cpu, Shape};
use proptest::prelude::{Strategy, prop, prop_assert, prop_assume, proptest};

type C = Cpu<f64>;

#[derive(Clone, Copy, Debug)]
struct Extents {
    x: [usize; 4],
    w: [usize; 4],
    options: ConvOptions,
}

impl Extents {
    fn out_hw(&self) -> [usize; 2] {
        let padded = |i: usize| self.x[2 + i] + 2 * self.options.padding[i];
        [0, 1].map(|i| (padded(i) - self.w[2 + i]) / self.options.stride[i] + 1)
    }
}

fn extents() -> impl Strategy<Value = Extents> {
    let two = |range: std::ops::Range<usize>| [range.clone(), range];
    let per_group = (1..4_usize, 1..20_usize);
    (1..4_usize, 1..4_usize, per_group, two(1..12), two(1..6), two(1..4), two(0..3)).prop_filter_map(
        "the kernel fits",
        |(n, groups, (c, o), hw, kernel, stride, padding)| {
            let fits = (0..2).all(|i| hw[i] + 2 * padding[i] >= kernel[i]);
            fits.then_some(Extents {
                x: [n, groups * c, hw[0], hw[1]],
                w: [groups * o, c, kernel[0], kernel[1]],
                options: ConvOptions { stride, padding, groups },
            })
        },
    )
}

/// The sum over channels of the group and cells of the kernel, at each output.
fn definition(e: &Extents, x: &[f64], w: &[f64]) -> Vec<f64> {
    let ([n, c, h, wide], [o, per_group, kh, kw]) = (e.x, e.w);
    let [oh, ow] = e.out_hw();
    let ConvOptions { stride, padding, groups } = e.options;
    let mut y = Vec::new();
    for (image, out) in (0..n).flat_map(|image| (0..o).map(move |out| (image, out))) {
        for (row, column) in (0..oh).flat_map(|row| (0..ow).map(move |column| (row, column))) {
            let mut sum = 0.0;
            for (i, weight) in w[out * per_group * kh * kw..][..per_group * kh * kw].iter().enumerate() {
                let channel = out / (o / groups) * per_group + i / (kh * kw);
                let r = (row * stride[0] + i / kw % kh).checked_sub(padding[0]).filter(|r| *r < h);
                let k = (column * stride[1] + i % kw).checked_sub(padding[1]).filter(|k| *k < wide);
                if let (Some(r), Some(k)) = (r, k) {
                    sum += weight * x[((image * c + channel) * h + r) * wide + k];
                }
            }
            y.push(sum);
        }
    }
    y
}

/// Numbers without a pattern that a stride could hide.
fn numbers(len: usize, seed: f64) -> Vec<f64> {
    (0..len).map(|i| ((i as f64 + seed) * 12.9898).sin() * 2.0).collect()
}

type Conv = for<'g> fn(Var<'g, C>, Var<'g, C>, Var<'g, C>, ConvOptions) -> Result<Var<'g, C>, NnError>;

const FUSED: [Conv; 3] = [
    |x, w, b, o| x.conv2d(w, Some(b), o),
    |x, w, b, o| x.conv2d_relu(w, Some(b), o),
    |x, w, b, o| x.conv2d_relu_pool2(w, Some(b), o),
];

fn close(got: &[f64], want: &[f64]) -> bool {
    let scale = want.iter().fold(1.0_f64, |m, v| m.max(v.abs()));
    got.len() == want.len() && got.iter().zip(want).all(|(a, b)| (a - b).abs() <= 1e-12 * scale)
}

proptest! {
    #[test]
    fn outputs_are_the_sums_of_the_definition(e in extents()) {
        let graph = Graph::new(C::new(), ParamBuilder::new().finish(), 0).unwrap();
        let (x, w) = (Shape::from(e.x), Shape::from(e.w));
        let (x_data, w_data) = (numbers(x.len(), 1.0), numbers(w.len(), 0.5));
        let (x, w) = (graph.input(&x_data, x).unwrap(), graph.input(&w_data, w).unwrap());
        let y = x.conv2d(w, None, e.options).unwrap();
        prop_assert!(close(&y.to_vec(), &definition(&e, &x_data, &w_data)));
    }

    #[test]
    fn fused_forms_equal_their_parts(e in extents(), which in 0..FUSED.len(), image_is_param in prop::bool::ANY) {
        let [oh, ow] = e.out_hw();
        prop_assume!(which < 2 || oh.min(ow) >= 2);
        let mut params = ParamBuilder::new();
        let operands = [Shape::from(e.x), Shape::from(e.w), Shape::from([e.w[0]])];
        let ids = operands.map(|shape| params.param("", shape, Init::Normal(1.0)));
        let mut graph = Graph::new(C::new(), params.finish(), 9).unwrap();
        let program = Program { ids, conv: FUSED[which], options: e.options, image_is_param };

        let mut sink = FlatSink::new(&graph).unwrap();
        let fused = program.loss(&graph).unwrap();
        let value = fused.to_vec();
        graph.backward(fused, 1.0, &mut sink).unwrap();
        graph.reset(Mode::Train, 0, 0);
        let direction = vec![1.0; graph.params().grad_len()];
        let composed = hessian_vector_product(&mut graph, &direction, |g| program.loss(g)).unwrap();
        prop_assert!(close(&sink.to_vec(), &composed.gradient));
        graph.set_direction(&direction).unwrap();
        prop_assert!(close(&value, &program.loss(&graph).unwrap().to_vec()));
    }
}

/// A convolution of parameters, or of an image computed from one.
struct Program {
    ids: [ParamId; 3],
    conv: Conv,
    options: ConvOptions,
    image_is_param: bool,
}

impl Program {
    /// `sum(conv(x)^2)`
    fn loss<'g>(&self, graph: &'g Graph<C>) -> Result<Var<'g, C>, NnError> {
        let [x, w, b] = self.ids.map(|id| graph.param(id));
        let x = if self.image_is_param { x } else { x.scale(0.5)?.add_scalar(0.1)? };
        (self.conv)(x, w, b, self.options)?.square()?.sum()
    }
}
