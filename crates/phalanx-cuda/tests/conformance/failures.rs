//! What cannot be done is told, and nothing is read that was not computed.

use crate::held::{Held, gpu, normals};
use phalanx_cuda::{Cuda, CudaError};
use phalanx_tensor::op::{AttentionOps as _, AttentionSpec, ElementwiseOps as _, ReduceOps as _};
use phalanx_tensor::{Backend as _, Memory as _, TensorError};

#[test]
fn a_device_that_is_not_there() {
    let devices = { gpu() }.ordinal().max(Cuda::devices().expect("a driver"));
    let asked = Cuda::open(99).map(|_| ()).unwrap_err();
    assert_eq!(asked, CudaError::NoDevice { ordinal: 99, devices });
    assert_eq!(asked.to_string(), format!("cuda:99 with {devices} devices: they are numbered from 0"));
}

#[test]
fn more_memory_than_there_is() {
    gpu();
    // a device of its own: what it holds is what it took
    let gpu = Cuda::open(0).expect("a device");
    let kept = Held::new(&gpu, &[1.0; 100]);
    let asked = 1 << 50;
    match gpu.alloc(asked / 4) {
        Err(TensorError::DeviceMemory { device, asked: told, held, free }) => {
            assert_eq!((device.as_str(), told), ("cuda:0", asked));
            assert!(held >= 400 && free < asked, "{held} {free}");
        }
        other => panic!("{other:?}"),
    }
    // a refusal is no failure of the device
    gpu.check().expect("the device is well");
    assert_eq!(kept.get(), [1.0; 100]);
}

#[test]
fn after_a_failure_nothing_is_done_and_nothing_is_believed() {
    gpu();
    let gpu = Cuda::open(0).expect("a device");
    let spec = AttentionSpec { batch: 1, time: 2, heads: 1, head_dim: 200 };
    let qkv = Held::new(&gpu, &normals(1200, 1));
    let (mut y, mut lse) = (Held::new(&gpu, &[3.0; 400]), Held::new(&gpu, &[3.0; 2]));
    assert_eq!(y.get(), [3.0; 400]);
    gpu.attention(&spec, qkv.view(), y.write(), lse.write());
    let fault = gpu.check().unwrap_err();
    assert_eq!(fault.to_string(), "cuda:0: attention with a head's width of 200: 128 is the most");
    // even what was computed before
    assert!(y.get().iter().all(|y| y.is_nan()));
    assert!(gpu.moments(qkv.view()).sum_sq.is_nan() && gpu.dot(qkv.view(), qkv.view()).is_nan());
    gpu.fill(1.0, y.write());
    assert_eq!(gpu.check(), Err(fault), "the first failure stays");
    assert!(gpu.synchronize().is_err());
}
