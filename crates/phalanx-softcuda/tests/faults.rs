//! Planted faults: each is caught, with kernel, block, thread and source line.

mod support;

use phalanx_softcuda::Setting;
use std::ptr;
use support::{
    ASSERT, Gpu, ILLEGAL_ADDRESS, ILLEGAL_INSTRUCTION, INVALID_VALUE, MISALIGNED_ADDRESS, Param, SUCCESS,
    alone, cuCtxSynchronize, cuFuncSetAttribute, cuGetErrorName, cuMemFree_v2, module, set,
};

/// Registers of all kernels here.
const REGISTERS: &str = ".reg .pred %p<4>; .reg .b32 %r<12>; .reg .f32 %f<4>; .reg .b64 %rd<12>;\n";

/// Runs a kernel whose parameter 0 is memory of 64 words, on one block.
fn fault_of(threads: u32, body: &str) -> (u32, String) {
    let gpu = Gpu::new();
    let kernel = gpu.kernel(&module(".param .u64 k_param_0", &format!("{REGISTERS}{body}")), "k");
    let memory = gpu.upload(&[0_u32; 64]);
    (gpu.run(kernel, 1, threads, &[Param::Long(memory)]), gpu.fault())
}

/// What loads the parameter to %rd1 and the thread's number to %r1, and the address of the thread's word to %rd3.
const HEAD: &str = "ld.param.u64 %rd1, [k_param_0]; cvta.to.global.u64 %rd1, %rd1; mov.u32 %r1, %tid.x;
    mul.wide.u32 %rd2, %r1, 4; add.s64 %rd3, %rd1, %rd2;\n";

#[test]
fn an_access_out_of_bounds_by_one() {
    let (code, fault) = fault_of(64, &format!("{HEAD} .loc 1 9 3\n st.global.u32 [%rd3+4], %r1;"));
    assert_eq!(code, ILLEGAL_ADDRESS);
    let expected = "kernel k, block (0,0,0), thread (63,0,0), k.cu:9: write of 4 bytes";
    assert!(
        fault.contains(expected) && fault.contains("4 bytes past the end of an allocation of 256 bytes"),
        "{fault}"
    );
}

#[test]
fn a_fault_stays() {
    let gpu = Gpu::new();
    let kernel =
        gpu.kernel(&module("", &format!("{REGISTERS} mov.u64 %rd1, 0; ld.global.u32 %r1, [%rd1];")), "k");
    let memory = gpu.allocate(4);
    assert_eq!(gpu.run(kernel, 1, 1, &[]), ILLEGAL_ADDRESS);
    // SAFETY: no pointers of the host
    unsafe {
        assert_eq!(cuCtxSynchronize(), ILLEGAL_ADDRESS);
        assert_eq!(cuMemFree_v2(memory), ILLEGAL_ADDRESS);
        let mut name = ptr::null();
        assert_eq!(cuGetErrorName(ILLEGAL_ADDRESS, &mut name), SUCCESS);
        assert_eq!(std::ffi::CStr::from_ptr(name).to_str(), Ok("CUDA_ERROR_ILLEGAL_ADDRESS"));
    }
    assert_eq!(gpu.run(kernel, 1, 1, &[]), ILLEGAL_ADDRESS);
}

#[test]
fn memory_that_was_freed() {
    let gpu = Gpu::new();
    let text = module(
        ".param .u64 k_param_0",
        &format!("{REGISTERS}{HEAD} .loc 1 5 1\n ld.global.u32 %r2, [%rd3];"),
    );
    let kernel = gpu.kernel(&text, "k");
    let memory = gpu.upload(&[7_u32; 32]);
    assert_eq!(gpu.run(kernel, 1, 32, &[Param::Long(memory)]), SUCCESS);
    // SAFETY: no pointers of the host
    assert_eq!(unsafe { cuMemFree_v2(memory) }, SUCCESS);
    assert_eq!(gpu.run(kernel, 1, 32, &[Param::Long(memory)]), ILLEGAL_ADDRESS);
    let fault = gpu.fault();
    assert!(fault.contains("k.cu:5: read of 4 bytes at byte 0 of freed memory of 128"), "{fault}");
}

#[test]
fn global_memory_that_nothing_has_written() {
    let gpu = Gpu::new();
    let text = module(".param .u64 k_param_0", &format!("{REGISTERS}{HEAD} ld.global.u32 %r2, [%rd3];"));
    let kernel = gpu.kernel(&text, "k");
    let memory = gpu.allocate(128);
    assert_eq!(gpu.run(kernel, 1, 32, &[Param::Long(memory)]), ILLEGAL_ADDRESS);
    assert!(gpu.fault().contains("which nothing has written"), "{}", gpu.fault());
}

#[test]
fn shared_memory_that_nothing_has_written() {
    let body = ".shared .align 4 .b8 s[256]; .loc 1 4 1\n ld.shared.u32 %r1, [s+8];";
    let (code, fault) = fault_of(1, body);
    assert_eq!(code, ILLEGAL_ADDRESS);
    assert!(
        fault.contains("k.cu:4: read of byte 0x8 of shared memory, which nothing has written"),
        "{fault}"
    );
}

#[test]
fn a_vector_that_is_not_aligned() {
    let body = format!("{HEAD} .loc 1 6 1\n ld.global.v4.f32 {{%f0, %f1, %f2, %f3}}, [%rd3];");
    let (code, fault) = fault_of(32, &body);
    assert_eq!(code, MISALIGNED_ADDRESS);
    assert!(fault.contains("thread (1,0,0), k.cu:6: access of 16 bytes"), "{fault}");
}

/// Each thread writes its word of shared memory and reads that of another.
fn exchange(between: &str, xor: u32) -> String {
    format!(
        ".shared .align 4 .b8 s[512]; mov.u32 %r1, %tid.x; shl.b32 %r2, %r1, 2; mov.u32 %r3, s; add.s32 %r4, %r3, %r2;
        st.shared.u32 [%r4], %r1; {between} xor.b32 %r5, %r1, {xor}; shl.b32 %r5, %r5, 2; add.s32 %r6, %r3, %r5;
        .loc 1 12 1\n ld.shared.u32 %r7, [%r6];"
    )
}

#[test]
fn a_missing_barrier_of_the_block() {
    assert_eq!(fault_of(128, &exchange("bar.sync 0;", 127)).0, SUCCESS);
    let (code, fault) = fault_of(128, &exchange("", 64));
    assert_eq!(code, ILLEGAL_ADDRESS);
    assert!(fault.contains("k.cu:12"), "{fault}");
}

#[test]
fn a_write_that_overtakes_a_read() {
    let body = exchange("bar.sync 0;", 127) + ".loc 1 13 1\n st.shared.u32 [%r4], %r7;";
    let (code, fault) = fault_of(128, &body);
    assert_eq!(code, ILLEGAL_ADDRESS);
    // whichever of the two comes second finds it
    assert!(fault.contains("k.cu:12: race: read") || fault.contains("k.cu:13: race: write"), "{fault}");
}

#[test]
fn a_missing_barrier_of_a_warp() {
    assert_eq!(fault_of(32, &exchange("bar.warp.sync 0xffffffff;", 1)).0, SUCCESS);
    let (code, fault) = fault_of(32, &exchange("", 1));
    assert_eq!(code, ILLEGAL_ADDRESS);
    assert!(fault.contains("race: read") && fault.contains("write by lane 1 of warp 0"), "{fault}");
}

#[test]
fn a_barrier_that_not_all_reach() {
    let lanes = "mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 5; @%p1 bra $L1; .loc 1 3 1\n bar.sync 0; $L1:";
    let (code, fault) = fault_of(32, lanes);
    assert_eq!(code, ILLEGAL_INSTRUCTION);
    assert!(fault.contains("k.cu:3: divergent barrier: lanes 0xffffffe0 wait here"), "{fault}");
    let warps = "mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 32; @%p1 bra $L1; .loc 1 3 1\n bar.sync 0; $L1:";
    let (code, fault) = fault_of(64, warps);
    assert_eq!(code, ILLEGAL_INSTRUCTION);
    assert!(fault.contains("some warps wait here, the others have returned"), "{fault}");
}

#[test]
fn a_shuffle_without_lanes_that_it_names() {
    let divergent = "mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 5; @%p1 bra $L1; .loc 1 3 1
        shfl.sync.bfly.b32 %r2, %r1, 1, 31, -1; bra $L2; $L1: mov.u32 %r3, 1; $L3: add.s32 %r3, %r3, 1;
        setp.lt.u32 %p2, %r3, 9; @%p2 bra $L3; bar.sync 0; $L2:";
    let (code, fault) = fault_of(32, divergent);
    assert_eq!(code, ILLEGAL_INSTRUCTION);
    assert!(fault.contains("k.cu:3: lanes 0xffffffe0 wait for lanes that never come"), "{fault}");
    let (code, fault) = fault_of(16, "mov.u32 %r1, %tid.x; shfl.sync.bfly.b32 %r2, %r1, 16, 31, -1;");
    assert_eq!(code, ILLEGAL_INSTRUCTION);
    assert!(fault.contains("lane 0 reads lane 16 by a shuffle"), "{fault}");
}

#[test]
fn launches_beyond_the_limits() {
    let gpu = Gpu::new();
    let text = module("", ".shared .align 4 .b8 s[1024];");
    let kernel = gpu.kernel(&text, "k");
    let launch = |grid, block, shared| gpu.launch_in(ptr::null_mut(), kernel, [grid, block], shared, &[]);
    assert_eq!(launch([1, 1, 1], [1024, 1, 1], 0), SUCCESS);
    assert_eq!(launch([1, 1, 1], [1025, 1, 1], 0), INVALID_VALUE);
    assert_eq!(launch([1, 1, 1], [33, 32, 1], 0), INVALID_VALUE);
    assert_eq!(launch([0, 1, 1], [1, 1, 1], 0), INVALID_VALUE);
    assert_eq!(launch([1, 65536, 1], [1, 1, 1], 0), INVALID_VALUE);
    assert_eq!(launch([1, 1, 1], [32, 1, 1], 47 << 10), SUCCESS);
    assert_eq!(launch([1, 1, 1], [32, 1, 1], 48 << 10), INVALID_VALUE);
    assert!(gpu.fault().contains("more must be opted in to"), "{}", gpu.fault());
    // SAFETY: no pointers of the host
    unsafe {
        assert_eq!(cuFuncSetAttribute(kernel, 8, 96 << 10), SUCCESS);
        assert_eq!(cuFuncSetAttribute(kernel, 8, 163 << 10), INVALID_VALUE);
    }
    assert_eq!(launch([1, 1, 1], [32, 1, 1], 96 << 10), SUCCESS);
}

#[test]
fn dynamic_shared_memory_that_is_too_small() {
    let gpu = Gpu::new();
    let body = format!(
        "{REGISTERS} mov.u32 %r1, %tid.x; shl.b32 %r2, %r1, 2; mov.u32 %r3, dyn; add.s32 %r4, %r3, %r2;
        .loc 1 8 1\n st.shared.u32 [%r4], %r1;"
    );
    let text = module("", &body).replace(".visible", ".extern .shared .align 16 .b8 dyn[];\n.visible");
    let kernel = gpu.kernel(&text, "k");
    let launch = |shared| gpu.launch_in(ptr::null_mut(), kernel, [[1, 1, 1], [64, 1, 1]], shared, &[]);
    assert_eq!(launch(256), SUCCESS);
    assert_eq!(launch(252), SUCCESS);
    // SAFETY: no pointers
    assert_eq!(unsafe { cuCtxSynchronize() }, ILLEGAL_ADDRESS);
    let fault = gpu.fault();
    assert!(fault.contains("thread (63,0,0), k.cu:8: write of 4 bytes at byte 0xfc of 252"), "{fault}");
}

#[test]
fn an_asynchronous_copy_that_nobody_waits_for() {
    let copy = |wait: &str| {
        format!(
            "{HEAD} .shared .align 16 .b8 s[256]; shl.b32 %r2, %r1, 2; mov.u32 %r3, s; add.s32 %r4, %r3, %r2;
            cp.async.ca.shared.global [%r4], [%rd3], 4; cp.async.commit_group; {wait}
            .loc 1 7 1\n ld.shared.u32 %r5, [%r4];"
        )
    };
    assert_eq!(fault_of(32, &copy("cp.async.wait_group 0;")).0, SUCCESS);
    let (code, fault) = fault_of(32, &copy("cp.async.wait_group 1;"));
    assert_eq!(code, ILLEGAL_ADDRESS);
    assert!(
        fault.contains("k.cu:7") && fault.contains("while an asynchronous copy to it is under way"),
        "{fault}"
    );
}

#[test]
fn an_assertion_that_does_not_hold() {
    let body = "{ .reg .b64 t; .param .b64 param0; mov.u64 t, 0; st.param.b64 [param0], t; .loc 1 3 1
        call.uni __assertfail, (param0); }";
    let (code, fault) = fault_of(32, body);
    assert_eq!(code, ASSERT);
    assert!(fault.contains("k.cu:3: an assertion of the kernel does not hold"), "{fault}");
}

#[test]
fn a_kernel_that_does_not_end() {
    alone(|| {
        set(&Setting::Steps(100_000));
        let gpu = Gpu::new();
        let kernel = gpu.kernel(&module("", ".loc 1 2 1\n $L1: bra $L1;"), "k");
        assert_eq!(gpu.run(kernel, 1, 32, &[]), 702);
        assert!(gpu.fault().contains("does not end"), "{}", gpu.fault());
    });
}
