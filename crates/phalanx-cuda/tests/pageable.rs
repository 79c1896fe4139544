//! A device that reads the host's pageable memory itself: what the machine is, is chosen once a process, so this program has one
//! test.

use phalanx_cuda::Cuda;
use phalanx_softcuda::{Schedule, Setting};
use phalanx_tensor::{Backend as _, Memory as _};

#[test]
fn what_was_uploaded_may_be_written_again_at_once() {
    if std::env::var_os("PHALANX_GPU").is_some() {
        // the real device has its own way
        return;
    }
    let machine = phalanx_softcuda::install().expect("the stand-ins are built with the tests");
    for setting in [Setting::PageableAccess(true), Setting::Schedule(Schedule::Lazy { seed: 1 })] {
        machine.set(&setting).expect("before the first use");
    }
    let gpu = Cuda::open(0).expect("a device");
    let (mut buf, mut host) = (gpu.alloc(1000).expect("memory"), vec![1.0; 1000]);
    gpu.upload(&host, gpu.view_mut(&mut buf, 0..1000));
    host.fill(2.0);
    gpu.download(gpu.view(&buf, 0..1000), &mut host);
    assert_eq!(host, [1.0; 1000]);
    gpu.check().expect("the device is well");
}
