//! A device that is lost in the middle: a failure that stays as long as the process, so this program has one test.

use phalanx_cuda::Cuda;
use phalanx_softcuda::Setting;
use phalanx_tensor::op::ElementwiseOps as _;
use phalanx_tensor::{Backend as _, Memory as _, TensorError};

#[test]
fn what_a_lost_device_gives_is_not_believed() {
    if std::env::var_os("PHALANX_GPU").is_some() {
        // no real device is lost for a test
        return;
    }
    let machine = phalanx_softcuda::install().expect("the stand-ins are built with the tests");
    machine.set(&Setting::Lose { device: 0, launch: 3 }).expect("before the first use");
    let gpu = Cuda::open(0).expect("a device");
    let mut y = gpu.alloc(4).expect("memory");
    let mut host = [0.0; 4];
    for value in [1.0, 2.0] {
        gpu.fill(value, gpu.view_mut(&mut y, 0..4));
        gpu.download(gpu.view(&y, 0..4), &mut host);
        assert_eq!((host, gpu.check()), ([value as f32; 4], Ok(())));
    }
    gpu.fill(3.0, gpu.view_mut(&mut y, 0..4));
    gpu.download(gpu.view(&y, 0..4), &mut host);
    assert!(host.iter().all(|y| y.is_nan()), "{host:?}");
    let fault = gpu.check().unwrap_err();
    assert!(matches!(&fault, TensorError::Device { device, code: 719, .. } if device == "cuda:0"), "{fault}");
    // what comes after changes nothing
    gpu.fill(1.0, gpu.view_mut(&mut y, 0..4));
    gpu.download(gpu.view(&y, 0..4), &mut host);
    assert!(host.iter().all(|y| y.is_nan()));
    assert_eq!(gpu.check(), Err(fault));
    assert!(gpu.alloc(3).is_err());
}
