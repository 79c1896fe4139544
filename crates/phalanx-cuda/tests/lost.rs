//! A kernel that touches what is not its own: a failure that stays as long as the process, so this program has one test.

use phalanx_cuda::Cuda;
use phalanx_tensor::op::{ElementwiseOps as _, IndexOps as _};
use phalanx_tensor::{Backend as _, Memory as _, TensorError};

#[test]
fn an_index_beyond_the_table_is_told_where_the_result_is_read() {
    if std::env::var_os("PHALANX_GPU").is_none() {
        phalanx_softcuda::install().expect("the stand-ins are built with the tests");
    }
    let gpu = Cuda::open(0).expect("a device");
    let (table, mut ids) = (gpu.alloc(12).expect("memory"), gpu.alloc_index(1).expect("memory"));
    let mut y = gpu.alloc(4).expect("memory");
    gpu.upload_index(&[u32::MAX], gpu.index_view_mut(&mut ids, 0..1));
    gpu.gather_rows(4, gpu.view(&table, 0..12), gpu.index_view(&ids, 0..1), gpu.view_mut(&mut y, 0..4));
    let mut host = [0.0; 4];
    gpu.download(gpu.view(&y, 0..4), &mut host);
    assert!(host.iter().all(|y| y.is_nan()), "{host:?}");
    let fault = gpu.check().unwrap_err();
    assert!(matches!(&fault, TensorError::Device { device, code: 700, .. } if device == "cuda:0"), "{fault}");
    // what comes after changes nothing
    gpu.fill(1.0, gpu.view_mut(&mut y, 0..4));
    gpu.download(gpu.view(&y, 0..4), &mut host);
    assert!(host.iter().all(|y| y.is_nan()));
    assert_eq!(gpu.check(), Err(fault));
    assert!(gpu.alloc(3).is_err());
}
