//! Buffers, views and the pool.

use crate::held::{Held, Ids, gpu, normals};
use phalanx_cuda::{Cuda, CudaView, CudaViewMut};
use phalanx_tensor::op::{
    Activation, BinaryKind, ConvOps as _, ConvSpec, ElementwiseOps as _, LayoutOps as _, Mat, MatmulOps as _,
    MatmulSpec, PoolOps as _, PoolSpec, ReduceOps as _, Strided,
};
use phalanx_tensor::{Backend as _, Memory as _, Shape, Write};

#[test]
fn what_was_written_is_read() {
    let gpu = gpu();
    for n in [0, 1, 33, 1001] {
        let x = normals(n, 1);
        assert_eq!(Held::new(&gpu, &x).get(), x);
        let ids: Vec<u32> = (0..).take(n).collect();
        assert_eq!(Ids::new(&gpu, &ids).get(), ids);
    }
    assert_eq!(gpu.name(), "cuda:0");
}

#[test]
fn a_buffer_begins_with_zeros_also_where_another_was() {
    let gpu = gpu();
    drop(Held::new(&gpu, &[7.0; 300]));
    let buf = gpu.alloc(300).unwrap();
    let mut host = [1.0; 300];
    gpu.download(gpu.view(&buf, 0..300), &mut host);
    assert_eq!(host, [0.0; 300]);
}

#[test]
fn views_are_parts() {
    let gpu = gpu();
    let mut buf = gpu.alloc(10).unwrap();
    gpu.fill(2.0, gpu.view_mut(&mut buf, 3..7));
    let all = gpu.view(&buf, 0..10);
    let mut host = [9.0; 4];
    gpu.download(gpu.part(&all, 2..6), &mut host);
    assert_eq!(host, [0.0, 2.0, 2.0, 2.0]);
}

#[test]
#[should_panic(expected = "3..11 of 10 elements")]
fn a_view_beyond_its_buffer_is_a_bug_of_the_caller() {
    let gpu = gpu();
    let buf = gpu.alloc(10).unwrap();
    let _ = gpu.view(&buf, 3..11);
}

/// Ten elements beside others of the pool, and what would walk eleven.
fn beyond(op: impl FnOnce(&Cuda, CudaView<'_, f32>, CudaViewMut<'_, f32>)) {
    let gpu = gpu();
    let (x, mut y) = (gpu.alloc(10).unwrap(), gpu.alloc(10).unwrap());
    op(&gpu, gpu.view(&x, 0..10), gpu.view_mut(&mut y, 0..10));
}

#[test]
#[should_panic(expected = "matmul operands")]
fn a_product_beyond_its_operands() {
    let mat = Mat::dense(1, 1);
    let a = Mat { rows: 5, ..mat };
    // the third row begins at 10
    let spec = MatmulSpec { batch: 1, m: 3, n: 1, k: 1, a, b: mat, c: mat };
    beyond(|gpu, x, y| gpu.matmul(&spec, x, x, Write::Set, y));
}

#[test]
#[should_panic(expected = "copy_strided")]
fn a_copy_beyond_its_source() {
    let to = Strided::dense(Shape::from([10]));
    beyond(|gpu, x, y| gpu.copy_strided((x, Strided { offset: 1, ..to }), Write::Set, (y, to)));
}

#[test]
#[should_panic(expected = "binary")]
fn an_addition_beyond_its_operands() {
    let dense = Strided::dense(Shape::from([10]));
    let skipping = Strided { offset: 1, ..dense };
    beyond(|gpu, x, y| gpu.binary(BinaryKind::Add, (x, dense), (x, skipping), Write::Set, y));
}

#[test]
#[should_panic(expected = "the operands of a pooling")]
fn a_pooling_beyond_its_planes() {
    let spec = PoolSpec { planes: 11, hw: [1, 1], kernel: [1, 1], stride: [1, 1], padding: [0, 0] };
    beyond(|gpu, x, y| gpu.avg_pool2d(&spec, x, y));
}

/// It may be reached, but nothing would order the two devices.
#[test]
#[should_panic(expected = "memory of cuda:0 for another device's operator")]
fn an_operand_of_another_device_is_a_bug_of_the_caller() {
    gpu();
    let (one, other) = (Cuda::open(0).expect("a device"), Cuda::open(0).expect("a device"));
    let mut buf = one.alloc(10).expect("memory");
    other.fill(1.0, one.view_mut(&mut buf, 0..10));
}

/// What was given back is used again: the second round takes nothing from the driver, work space of operators included.
#[test]
fn a_warmed_up_step_allocates_nothing() {
    gpu();
    // a device of its own: what it holds is what this test took
    let gpu = Cuda::open(0).expect("a device");
    let spec =
        ConvSpec { n: 3, c: 2, hw: [6, 6], o: 4, kernel: [3, 3], stride: [1, 1], padding: [1, 1], groups: 2 };
    let step = || {
        let (x, w) =
            (Held::new(&gpu, &normals(spec.input_len(), 1)), Held::new(&gpu, &normals(spec.weight_len(), 2)));
        let (mut y, mut dx) =
            (Held::new(&gpu, &normals(spec.output_len(), 3)), Held::new(&gpu, &normals(spec.input_len(), 4)));
        gpu.conv2d(&spec, x.view(), w.view(), None, Activation::None, y.write(), None);
        let dx_to = Some((Write::Set, dx.write()));
        gpu.conv2d_grad(
            &spec,
            Activation::None,
            x.view(),
            w.view(),
            y.view(),
            None,
            y.view(),
            None,
            None,
            dx_to,
        );
        gpu.moments(dx.view()).sum_sq
    };
    let first = step();
    let held = gpu.held();
    assert!(held >= 4 * (2 * spec.input_len() + spec.weight_len() + spec.output_len()), "{held}");
    for _ in 0..3 {
        assert_eq!(step().to_bits(), first.to_bits(), "the same bits every time");
    }
    assert_eq!(gpu.held(), held);
}

#[test]
fn what_is_kept_goes_back_when_it_is_asked_for() {
    gpu();
    let gpu = Cuda::open(0).expect("a device");
    let kept = Held::new(&gpu, &[1.0; 100]);
    drop(Held::new(&gpu, &[2.0; 1000]));
    assert_eq!(gpu.held(), 4400);
    gpu.trim();
    assert_eq!((gpu.held(), kept.get()), (400, vec![1.0; 100]));
}

/// Ranks as threads, a device each; and one thread that goes from one device to the other.
#[test]
fn two_devices_do_not_meet() {
    let first = gpu();
    if Cuda::devices().expect("a driver") < 2 {
        println!("skipped: one device");
        return;
    }
    let on = |ordinal: usize| {
        let gpu = Cuda::open(ordinal).expect("a device");
        let mut x = Held::new(&gpu, &[0.0; 300]);
        gpu.fill(ordinal as f64 + 1.0, x.write());
        gpu.dot(x.view(), x.view())
    };
    let dots: Vec<f64> = std::thread::scope(|scope| {
        let ranks: Vec<_> = [0, 1].into_iter().map(|ordinal| scope.spawn(move || on(ordinal))).collect();
        ranks.into_iter().map(|rank| rank.join().expect("no panic")).collect()
    });
    assert_eq!(dots, [300.0, 1200.0]);
    let second = Cuda::open(1).expect("a device");
    assert_eq!((first.name(), second.name()), ("cuda:0".to_owned(), "cuda:1".to_owned()));
    let (mut x, mut y) = (Held::new(&first, &[1.0; 33]), Held::new(&second, &[2.0; 33]));
    first.fill(3.0, x.write());
    second.fill(4.0, y.write());
    assert_eq!((x.get(), y.get()), (vec![3.0; 33], vec![4.0; 33]));
    assert_eq!((first.check(), second.check()), (Ok(()), Ok(())));
}
