//! A machine without a driver, as most that build this are: nothing is installed here, so this program has one test.

use phalanx_cuda::{Cuda, CudaError};

#[test]
fn a_machine_without_a_driver_is_told_so() {
    match Cuda::open(0) {
        Err(refused @ CudaError::NoLibrary { .. }) => {
            assert_eq!(
                refused.to_string(),
                "the library libcuda.so is not here: it comes with NVIDIA's driver"
            );
            assert_eq!(Cuda::devices(), Err(refused));
        }
        Ok(_) | Err(_) => println!("skipped: this machine has a driver"),
    }
}
