//! A warmed-up step of each model allocates nothing.

use crate::support::samples::made_up;
use crate::support::tiles::{KINDS, build, task};
use phalanx_nn::models::ModelConfig;
use phalanx_nn::{FlatSink, Graph, Mode};
use phalanx_tensor::Cpu;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counting the calls of each thread.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    CALLS.set(CALLS.get() + 1);
}

// SAFETY: all calls are passed on unchanged to the system's allocator, which keeps the contract; the counter is
// initialised without allocating and has no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, len) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls of the allocator in each of three steps of forward, backward and reset.
fn calls(kind: &str) -> [u64; 3] {
    let task = task(kind);
    let (net, params) = build(kind, ModelConfig::new(), &task);
    let tile = made_up(task, 0, 4);
    let mut graph = Graph::new(Cpu::<f32>::new(), params, 1).unwrap();
    let mut sink = FlatSink::new(&graph).unwrap();
    let mut loss = vec![0.0; tile.labels.len()];
    [0, 1, 2].map(|step| {
        let before = CALLS.get();
        graph.reset(Mode::Train, step, 0);
        sink.clear();
        let losses = tile.losses(&*net, &graph).unwrap();
        losses.read(&mut loss);
        graph.backward(losses, 1.0, &mut sink).unwrap();
        CALLS.get() - before
    })
}

#[test]
fn the_third_step_allocates_nothing() {
    for kind in KINDS {
        let [first, second, third] = calls(kind);
        assert!(first > 0, "{kind}: the allocator is not counted");
        assert_eq!(third, 0, "{kind}: {first}, then {second} calls before");
    }
}
