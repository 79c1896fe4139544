//! A driver that can compile none of the PTX, on a device that none of the machine code is for: what a machine is, is chosen
//! before its first use, so this program has one test.

use phalanx_cuda::{Cuda, CudaError};
use phalanx_softcuda::{Setting, install};

#[test]
fn a_driver_older_than_the_ptx_is_told_with_both_versions() {
    let machine = install().expect("the stand-ins are built with the tests");
    machine.set(&Setting::DriverVersion(12_040)).expect("before its first use");
    machine.set(&Setting::Capability { major: 12, minor: 0 }).expect("before its first use");
    let refused = Cuda::open(0).map(|_| ()).unwrap_err();
    assert_eq!(refused, CudaError::OldDriver { ordinal: 0, driver: (12, 4), needs: (12, 9) });
    assert_eq!(
        refused.to_string(),
        "the driver supports CUDA 12.4, the kernels for cuda:0 need 12.9: a newer driver is needed"
    );
}
