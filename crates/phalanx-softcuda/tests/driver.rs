//! The driver as programs call it.

mod support;

use phalanx_softcuda::Setting;
use support::{
    Gpu, INVALID_PTX, OUT_OF_MEMORY, Param, SUCCESS, alone, cuMemAlloc_v2, cuMemFree_v2, cuMemGetInfo_v2,
    module, set,
};

const ADD: &str = include_str!("ptx/add.ptx");

#[test]
fn vectors_of_any_length_are_added() {
    let gpu = Gpu::new();
    let add = gpu.kernel(ADD, "add");
    for n in [1_u32, 31, 32, 33, 255, 256, 257, 1000] {
        let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
        let b: Vec<f32> = (0..n).map(|i| 0.5 * i as f32).collect();
        let (pa, pb, pc) = (gpu.upload(&a), gpu.upload(&b), gpu.allocate(4 * n as usize));
        let params = [Param::Long(pa), Param::Long(pb), Param::Long(pc), Param::Word(n)];
        assert_eq!(gpu.run(add, n.div_ceil(256), 256, &params), SUCCESS, "{}", gpu.fault());
        let c: Vec<f32> = gpu.download(pc, n as usize);
        assert!(c.iter().enumerate().all(|(i, c)| *c == 1.5 * i as f32), "{n}");
    }
}

#[test]
fn an_unknown_instruction_is_named() {
    let gpu = Gpu::new();
    let module = gpu.load(&module("", ".reg .b32 %r<3>;\nfrobnicate.sync.b32 %r1, %r2;")).unwrap();
    assert_eq!(gpu.function(module, "k").unwrap_err(), INVALID_PTX);
    let fault = gpu.fault();
    assert!(fault.contains("frobnicate.sync.b32") && fault.contains("line 8"), "{fault}");
}

#[test]
fn memory_ends() {
    alone(|| {
        set(&Setting::MemoryBytes(1 << 20));
        let gpu = Gpu::new();
        let first = gpu.allocate(1 << 19);
        let (mut second, mut free, mut total) = (0, 0, 0);
        // SAFETY: valid pointers
        unsafe {
            assert_eq!(cuMemAlloc_v2(&mut second, (1 << 19) + 1), OUT_OF_MEMORY);
            assert_eq!(cuMemGetInfo_v2(&mut free, &mut total), SUCCESS);
            assert_eq!((free, total), (1 << 19, 1 << 20));
            assert_eq!(cuMemFree_v2(first), SUCCESS);
            assert_eq!(cuMemAlloc_v2(&mut second, (1 << 19) + 1), SUCCESS);
        }
    });
}
