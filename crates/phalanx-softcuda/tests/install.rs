//! How a process comes to use the stand-ins.

use phalanx_softcuda::{Setting, Softcuda, install};
use std::ffi::{CStr, c_int, c_uint, c_void};
use std::path::PathBuf;

fn open(name: &CStr) -> *mut c_void {
    // SAFETY: a string that ends
    unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_LOCAL) }
}

#[test]
fn all_names_lead_to_one_library() {
    let gpu = install().unwrap();
    let cuda = open(c"libcuda.so");
    assert!(!cuda.is_null());
    for name in [c"libcuda.so.1", c"libcublas.so", c"libcublas.so.12", c"libnccl.so", c"libnccl.so.2"] {
        assert_eq!(open(name), cuda, "{name:?}");
    }
    gpu.set(&Setting::Devices(3)).unwrap();
    // SAFETY: functions of these signatures
    let (init, count) = unsafe {
        let init: extern "C" fn(c_uint) -> c_uint =
            std::mem::transmute(libc::dlsym(cuda, c"cuInit".as_ptr()));
        let count: extern "C" fn(*mut c_int) -> c_uint =
            std::mem::transmute(libc::dlsym(cuda, c"cuDeviceGetCount".as_ptr()));
        (init, count)
    };
    let mut devices = 0;
    assert_eq!((init(0), count(&mut devices), devices), (0, 0, 3));
    assert_eq!(gpu.fault(), None);
    install().unwrap();
}

#[test]
fn programs_find_it_by_their_library_path() {
    let path = Softcuda::library_path().unwrap();
    let links = std::env::split_paths(&path).next().unwrap();
    let target = |name: &str| links.join(name).canonicalize().unwrap();
    assert_eq!(target("libcuda.so.1"), target("libnccl.so.2"));
    assert_eq!(target("libcuda.so.1").file_name(), Some("libphalanx_softcuda.so".as_ref()));
    assert_ne!(links, PathBuf::new());
}
