//! Streams and events, eager and lazy.

mod support;

use phalanx_softcuda::{Schedule, Setting};
use std::ptr;
use support::{
    Gpu, Handle, NOT_READY, SUCCESS, alone, cuEventCreate, cuEventRecord, cuMemcpyDtoDAsync_v2,
    cuMemsetD32Async, cuStreamQuery, cuStreamSynchronize, cuStreamWaitEvent, set,
};

/// Fills memory in one stream and copies it in another, with an event between them or without, and tells whether the copy has
/// what was filled in.
fn copy_after_fill(gpu: &Gpu, with_event: bool) -> bool {
    let (one, two) = (gpu.stream(), gpu.stream());
    let (from, to) = (gpu.upload(&[1_u32; 256]), gpu.upload(&[0_u32; 256]));
    let mut event: Handle = ptr::null_mut();
    // SAFETY: no memory of the host but a valid pointer
    unsafe {
        assert_eq!(cuEventCreate(&mut event, 0), SUCCESS);
        assert_eq!(cuMemsetD32Async(from, 2, 256, one), SUCCESS);
        assert_eq!(cuEventRecord(event, one), SUCCESS);
        if with_event {
            assert_eq!(cuStreamWaitEvent(two, event, 0), SUCCESS);
        }
        assert_eq!(cuMemcpyDtoDAsync_v2(to, from, 1024, two), SUCCESS);
        assert_eq!(cuStreamSynchronize(two), SUCCESS);
    }
    gpu.download::<u32>(to, 256) == [2; 256]
}

#[test]
fn a_missing_event_shows_under_some_seeds() {
    alone(|| {
        let gpu = Gpu::new();
        let wrong = (0..20).filter(|&seed| {
            set(&Setting::Schedule(Schedule::Lazy { seed }));
            assert!(copy_after_fill(&gpu, true), "seed {seed}");
            !copy_after_fill(&gpu, false)
        });
        let wrong = wrong.count();
        assert!((4..17).contains(&wrong), "{wrong} of 20 seeds show it");
    });
}

#[test]
fn an_eager_schedule_hides_it() {
    let gpu = Gpu::new();
    assert!(copy_after_fill(&gpu, false) && copy_after_fill(&gpu, true));
}

#[test]
fn lazy_streams_are_not_ready_before_somebody_waits() {
    alone(|| {
        set(&Setting::Schedule(Schedule::Lazy { seed: 1 }));
        let gpu = Gpu::new();
        let stream = gpu.stream();
        let memory = gpu.upload(&[0_u32; 4]);
        // SAFETY: no memory of the host
        unsafe {
            for _ in 0..3 {
                assert_eq!(cuMemsetD32Async(memory, 1, 4, stream), SUCCESS);
            }
            assert_eq!(cuStreamQuery(stream), NOT_READY);
            assert_eq!(cuStreamSynchronize(stream), SUCCESS);
            assert_eq!(cuStreamQuery(stream), SUCCESS);
        }
    });
}
