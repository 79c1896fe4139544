//! Buffers, views and the pool.

use crate::held::{Held, Ids, gpu, normals};
use phalanx_tensor::op::ElementwiseOps as _;
use phalanx_tensor::{Backend as _, Memory as _};

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

/// What was given back is used again: the second round takes nothing from the driver.
#[test]
fn a_warmed_up_step_allocates_nothing() {
    let gpu = phalanx_cuda::Cuda::clone(&gpu());
    let step = || {
        for n in [100, 5_000, 33, 100_000] {
            drop(Held::new(&gpu, &vec![1.0; n]));
        }
    };
    step();
    let held = gpu.held();
    step();
    assert_eq!(gpu.held(), held);
    assert!(held >= 4 * 100_000);
}
