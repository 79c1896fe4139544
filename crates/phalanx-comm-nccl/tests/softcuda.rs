//! Collectives of devices on the stand-ins for the driver and NCCL, or with `PHALANX_GPU` in the environment on the devices of the
//! machine, as many as there are: what they give, and that ranks which differ, stall or go end with an error on all ranks in
//! bounded time.

use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr as _, DevicePtrMut as _, DeviceRepr};
use phalanx_comm::{
    CommError, Communicator, Dtype, Element, OpKind, Options, Rank, ReduceOp, WorldSize, run_ranks,
};
use phalanx_comm_nccl::{DeviceSpan, NcclComm, NcclError, NcclExchange, NcclOptions};
use phalanx_cuda::Cuda;
use phalanx_grad::GradientExchange as _;
use phalanx_softcuda::{Schedule, Setting, install};
use phalanx_tensor::op::ElementwiseOps as _;
use phalanx_tensor::{Backend as _, Memory as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Whether the devices are those of the machine.
fn is_real() -> bool {
    std::env::var_os("PHALANX_GPU").is_some()
}

/// As [`machine`], for what the stand-ins alone can do.
#[expect(clippy::print_stderr, reason = "as below")]
fn stand_ins(devices: u32, schedule: Schedule) -> bool {
    if is_real() {
        eprintln!("not looked at: on stand-ins only");
    }
    !is_real() && machine(devices, schedule)
}

/// Devices, work being done as `schedule` says; false where the machine's own are asked for and are fewer.
#[expect(clippy::print_stderr, reason = "a test that looks at nothing must not look like one that passed")]
fn machine(devices: u32, schedule: Schedule) -> bool {
    if is_real() {
        let there = Cuda::devices().expect("a driver");
        let is_enough = there >= devices as usize;
        if !is_enough {
            eprintln!("not looked at: needs {devices} devices, the machine has {there}");
        }
        return is_enough;
    }
    let gpu = install().expect("the library is built with the tests");
    gpu.set(&Setting::Devices(devices)).expect("before the first use");
    gpu.set(&Setting::Schedule(schedule)).expect("before the first use");
    true
}

/// A stream of the device of each rank.
fn stream(host: &dyn Communicator) -> Result<Arc<CudaStream>, NcclError> {
    let context = CudaContext::new(host.rank().index())?;
    // SAFETY: each buffer of these tests is used on one stream
    unsafe { context.disable_event_tracking() };
    Ok(context.new_stream()?)
}

fn span<T: Element + DeviceRepr>(numbers: &mut CudaSlice<T>, stream: &CudaStream) -> DeviceSpan {
    let len = numbers.len();
    let address = numbers.device_ptr_mut(stream).0;
    // SAFETY: the buffers of these tests outlive the stream's work, and nothing else touches them
    unsafe { DeviceSpan::from_raw(address, len, T::DTYPE) }
}

const OPTIONS: NcclOptions =
    NcclOptions { timeout: Duration::from_secs(20), compared_first: 64, compared_every: 1024, send_bytes: 1 };

/// Runs `rank` on all ranks, each with a communicator and a stream.
fn on_ranks<T: Send + 'static>(
    ranks: usize,
    options: NcclOptions,
    rank: impl Fn(&NcclComm, &Arc<CudaStream>) -> Result<T, NcclError> + Send + Sync + 'static,
) -> Result<Vec<T>, String> {
    let world = Options { timeout: Duration::from_secs(30), ..Options::default() };
    let outcome = run_ranks(WorldSize(ranks), &world, move |host| {
        let stream = stream(&*host)?;
        let comm = NcclComm::new(&host, stream.context(), &options)?;
        let given = rank(&comm, &stream)?;
        comm.close()?;
        Ok::<_, NcclError>(given)
    });
    outcome.map_err(|error| {
        let causes: Vec<String> =
            std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source())
                .map(ToString::to_string)
                .collect();
        causes.join(": ")
    })
}

/// Small integers, so that every order gives the same sum.
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn row(rank: usize, len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * (rank + 3) + rank) % 13) as f32 - 6.0).collect()
}

fn sum(ranks: usize, len: usize) -> Vec<f32> {
    (0..len).map(|i| (0..ranks).map(|rank| row(rank, len)[i]).sum()).collect()
}

fn collectives(ranks: usize) {
    let given = on_ranks(ranks, OPTIONS, move |comm, stream| {
        let me = comm.rank().index();
        let mut reduced = stream.clone_htod(&row(me, 37))?;
        comm.all_reduce_in_place(span(&mut reduced, stream), ReduceOp::Sum, stream)?;

        let mut whole = stream.clone_htod(&row(me, 5 * ranks))?;
        let mut part = stream.alloc_zeros::<f32>(5)?;
        comm.reduce_scatter(span(&mut whole, stream), span(&mut part, stream), ReduceOp::Max, stream)?;

        let mut own = stream.clone_htod(&[me as u64 + 1, 7])?;
        let mut all = stream.alloc_zeros::<u64>(2 * ranks)?;
        comm.all_gather(span(&mut own, stream), span(&mut all, stream), stream)?;

        let mut of_last = stream.clone_htod(&[me as f64])?;
        comm.broadcast(span(&mut of_last, stream), Rank(ranks - 1), stream)?;
        Ok((
            stream.clone_dtoh(&reduced)?,
            stream.clone_dtoh(&part)?,
            stream.clone_dtoh(&all)?,
            stream.clone_dtoh(&of_last)?,
            comm.flight().iter().map(|record| record.op).collect::<Vec<_>>(),
        ))
    });
    let gathered: Vec<u64> = (1..=ranks as u64).flat_map(|rank| [rank, 7]).collect();
    let ops = [OpKind::AllReduce, OpKind::ReduceScatter, OpKind::AllGather, OpKind::Broadcast];
    for (rank, (reduced, part, all, of_last, flight)) in given.expect("no rank fails").into_iter().enumerate()
    {
        assert_eq!(reduced, sum(ranks, 37));
        let greatest = |i: usize| (0..ranks).map(|r| row(r, 5 * ranks)[i]).fold(f32::MIN, f32::max);
        assert_eq!(part, (5 * rank..5 * rank + 5).map(greatest).collect::<Vec<_>>());
        assert_eq!((all, of_last), (gathered.clone(), vec![(ranks - 1) as f64]));
        assert_eq!(flight, ops);
    }
}

#[test]
fn collectives_give_what_the_host_would() {
    for ranks in 1..=3 {
        let is_there = machine(if is_real() { ranks } else { 3 }, Schedule::Eager);
        is_there.then(|| collectives(ranks as usize));
    }
}

#[test]
fn collectives_are_in_the_order_of_their_stream() {
    if stand_ins(3, Schedule::Lazy { seed: 5 }) {
        [1, 2, 3].into_iter().for_each(collectives);
    }
}

#[test]
fn an_all_to_all_sends_a_segment_to_each() {
    if !machine(3, Schedule::Eager) {
        return;
    }
    let given = on_ranks(3, OPTIONS, |comm, stream| {
        let me = comm.rank().index();
        // rank a sends a + b numbers `10 a + b` to rank b
        let send: Vec<u64> = (0..3).flat_map(|to| vec![(10 * me + to) as u64; me + to]).collect();
        let counts: Vec<usize> = (0..3).map(|other| me + other).collect();
        let (mut out, mut into) = (stream.clone_htod(&send)?, stream.alloc_zeros::<u64>(3 * me + 3)?);
        let (out, spanned) = (span(&mut out, stream), span(&mut into, stream));
        comm.all_to_all(out, &counts, spanned, &counts, stream)?;
        Ok(stream.clone_dtoh(&into)?)
    });
    for (me, received) in given.expect("no rank fails").into_iter().enumerate() {
        let want: Vec<u64> = (0..3).flat_map(|from| vec![(10 * from + me) as u64; me + from]).collect();
        assert_eq!(received, want);
    }
}

#[test]
fn a_group_goes_to_the_device_at_once() {
    if !machine(2, Schedule::Eager) {
        return;
    }
    let given = on_ranks(2, OPTIONS, |comm, stream| {
        let me = comm.rank().index();
        let (mut a, mut b) = (stream.clone_htod(&row(me, 9))?, stream.clone_htod(&row(me + 1, 4))?);
        let (first, second) = (span(&mut a, stream), span(&mut b, stream));
        comm.grouped(stream, |group| {
            group.all_reduce_in_place(first, ReduceOp::Sum);
            group.broadcast(second, Rank(1))
        })?;
        Ok((stream.clone_dtoh(&a)?, stream.clone_dtoh(&b)?))
    });
    assert_eq!(given.expect("no rank fails"), [(sum(2, 9), row(2, 4)), (sum(2, 9), row(2, 4))]);
}

#[test]
fn ranks_that_call_different_things_all_fail_with_both_calls() {
    if !machine(2, Schedule::Eager) {
        return;
    }
    let error = on_ranks(2, OPTIONS, |comm, stream| {
        let len = 4 + comm.rank().index();
        let mut numbers = stream.clone_htod(&vec![1.0_f32; len])?;
        comm.all_reduce_in_place(span(&mut numbers, stream), ReduceOp::Sum, stream)
    })
    .expect_err("lengths differ");
    assert!(error.contains("ranks disagree at collective 1"), "{error}");
    assert!(error.contains("rank 0 called all_reduce(sum, f32 x 4)"), "{error}");
    assert!(error.contains("rank 1 called all_reduce(sum, f32 x 5)"), "{error}");
}

/// Without a comparison on the host it is the library that must notice, and the watchdog that tells.
#[test]
fn what_is_not_compared_is_refused_by_the_stand_in() {
    if !stand_ins(2, Schedule::Eager) {
        return;
    }
    let options = NcclOptions { compared_first: 0, compared_every: 0, ..OPTIONS };
    let error = on_ranks(2, options, |comm, stream| {
        let mut numbers = stream.clone_htod(&[1.0_f32; 4])?;
        let op = if comm.rank() == Rank(0) { ReduceOp::Sum } else { ReduceOp::Max };
        comm.all_reduce_in_place(span(&mut numbers, stream), op, stream)?;
        stream.synchronize()?;
        comm.check()
    })
    .expect_err("reductions differ");
    assert!(error.contains("ncclInvalidUsage") || error.contains("code 5"), "{error}");
    assert!(error.contains("rank 1 called ncclAllReduce(max, float32 x 4)"), "{error}");
}

#[test]
fn a_rank_that_does_not_come_ends_the_others_in_time() {
    if !machine(2, Schedule::Eager) {
        return;
    }
    let options =
        NcclOptions { timeout: Duration::from_millis(500), compared_first: 0, compared_every: 0, ..OPTIONS };
    let begun = Instant::now();
    let error = on_ranks(2, options, |comm, stream| {
        if comm.rank() == Rank(1) {
            while comm.check().is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
            return comm.check();
        }
        let mut numbers = stream.clone_htod(&[1.0_f32; 4])?;
        comm.all_reduce_in_place(span(&mut numbers, stream), ReduceOp::Sum, stream)?;
        stream.synchronize()?;
        comm.check()
    })
    .expect_err("rank 1 does not come");
    assert!(
        error.contains("all_reduce(sum, f32 x 4) (collective 1 of the devices) was not complete"),
        "{error}"
    );
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn a_rank_that_fails_ends_the_others() {
    if !machine(3, Schedule::Eager) {
        return;
    }
    let begun = Instant::now();
    let error = on_ranks(3, NcclOptions { compared_first: 0, ..OPTIONS }, |comm, stream| {
        if comm.rank() == Rank(2) {
            return Err(NcclError::Closed);
        }
        let mut numbers = stream.clone_htod(&[1.0_f32; 4])?;
        comm.all_reduce_in_place(span(&mut numbers, stream), ReduceOp::Sum, stream)?;
        stream.synchronize()?;
        comm.check()
    })
    .expect_err("rank 2 fails");
    assert!(error.contains("rank 2"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn two_ranks_on_one_device_are_refused() {
    if !stand_ins(1, Schedule::Eager) {
        return;
    }
    let world = Options { timeout: Duration::from_secs(30), ..Options::default() };
    let error = run_ranks(WorldSize(2), &world, |host| {
        let context = CudaContext::new(0)?;
        NcclComm::new(&host, &context, &OPTIONS).map(|_| ())
    })
    .expect_err("NCCL wants a device a rank");
    assert!(format!("{error:?}").contains("Duplicate GPU detected"), "{error:?}");
}

#[test]
fn a_dropped_communicator_ends_without_a_word() {
    if !machine(2, Schedule::Eager) {
        return;
    }
    let dropped = on_ranks(2, OPTIONS, |comm, stream| {
        let mut numbers = stream.clone_htod(&[1.0_f32; 4])?;
        comm.all_reduce_in_place(span(&mut numbers, stream), ReduceOp::Sum, stream)?;
        stream.synchronize()?;
        comm.check()?;
        assert_eq!(numbers.device_ptr(stream).0 % 4, 0);
        Ok(Dtype::F32)
    });
    assert_eq!(dropped, Ok(vec![Dtype::F32; 2]));
}

/// Runs `rank` on two ranks as the training loop has them: a device, and sums on it.
fn exchanging(
    options: NcclOptions,
    rank: impl Fn(&dyn Communicator, &Cuda, &mut NcclExchange) -> Result<(), CommError> + Send + Sync + 'static,
) {
    let world = Options { timeout: Duration::from_secs(30), ..Options::default() };
    run_ranks(WorldSize(2), &world, move |host| {
        let gpu = Cuda::open(host.rank().index()).expect("a device");
        let mut exchange = NcclExchange::new(&host, &gpu, &options).map_err(|error| error.on(host.rank()))?;
        rank(&*host, &gpu, &mut exchange)?;
        exchange.check()
    })
    .expect("no rank fails");
}

/// The sum of the ranks' numbers plus one.
fn summed(gpu: &Cuda, buffer: &<Cuda as phalanx_tensor::Memory>::Buf, len: usize) {
    let mut host = vec![0.0; len];
    gpu.download(gpu.view(buffer, 0..len), &mut host);
    gpu.check().expect("the device is well");
    assert_eq!(host, vec![3.0; len]);
}

/// A call that waited for all devices that share memory would wait for a sum that waits for the caller.
#[test]
fn memory_is_taken_while_another_device_waits_in_a_sum() {
    if !machine(2, Schedule::Eager) {
        return;
    }
    let options =
        NcclOptions { timeout: Duration::from_secs(5), compared_first: 0, compared_every: 0, ..OPTIONS };
    exchanging(options, |host, gpu, exchange| {
        let me = host.rank().index();
        let mut gradient = gpu.alloc(64).expect("memory");
        gpu.fill(me as f64 + 1.0, gpu.view_mut(&mut gradient, 0..64));
        if me == 1 {
            host.barrier()?;
            // a length that nobody has given back
            drop(gpu.alloc(5000).expect("memory"));
        }
        exchange.start(&mut gradient, 0..64)?;
        if me == 0 {
            host.barrier()?;
        }
        exchange.finish()?;
        summed(gpu, &gradient, 64);
        Ok(())
    });
}

/// The pool would give the memory to the next buffer, which the compute stream writes while the sum is still to come.
#[test]
fn memory_of_a_sum_that_has_begun_is_nobody_elses() {
    for seed in 1..7 {
        if !machine(2, Schedule::Lazy { seed }) {
            return;
        }
        exchanging(OPTIONS, |_, gpu, exchange| {
            let mut gradient = gpu.alloc(300).expect("memory");
            gpu.fill(1.0, gpu.view_mut(&mut gradient, 0..300));
            exchange.start(&mut gradient, 0..300)?;
            drop(gradient);
            let mut other = gpu.alloc(300).expect("memory");
            gpu.fill(3.0, gpu.view_mut(&mut other, 0..300));
            exchange.finish()?;
            summed(gpu, &other, 300);
            Ok(())
        });
    }
}

#[test]
fn a_stream_of_another_device_is_refused_on_all_ranks() {
    if !machine(2, Schedule::Eager) {
        return;
    }
    let begun = Instant::now();
    let error = on_ranks(2, NcclOptions { compared_first: 0, ..OPTIONS }, |comm, stream| {
        let mut numbers = stream.clone_htod(&[1.0_f32; 4])?;
        let span = span(&mut numbers, stream);
        if comm.rank() == Rank(1) {
            let other = CudaContext::new(0)?;
            // SAFETY: nothing is allocated; with it, a first stream would wait for the device
            unsafe { other.disable_event_tracking() };
            return comm.all_reduce_in_place(span, ReduceOp::Sum, &*other.new_stream()?);
        }
        comm.all_reduce_in_place(span, ReduceOp::Sum, stream)?;
        stream.synchronize()?;
        comm.check()
    })
    .expect_err("the stream is of another device");
    assert!(error.contains("a collective of cuda:1 on a stream of cuda:0"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn neighbours_leave_together() {
    for seed in 1..4 {
        if !machine(2, Schedule::Lazy { seed }) {
            return;
        }
        exchanging(NcclOptions { send_bytes: 80, ..OPTIONS }, |host, gpu, exchange| {
            let me = host.rank().index() as f64 + 1.0;
            let mut gradient = gpu.alloc(70).expect("memory");
            for part in [0..10, 10..20, 20..30, 50..64, 30..50, 64..70] {
                gpu.fill(me, gpu.view_mut(&mut gradient, part.clone()));
                exchange.start(&mut gradient, part)?;
            }
            exchange.finish()?;
            summed(gpu, &gradient, 70);
            let sent: Vec<u64> = exchange.flight().iter().map(|record| record.bytes).collect();
            // enough, not a neighbour of what follows, enough, the last
            assert_eq!(sent, [80, 40, 136, 24]);
            Ok(())
        });
    }
}
