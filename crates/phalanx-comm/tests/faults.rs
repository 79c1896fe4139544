//! Every collective of a small training loop fails once, on one rank; every rank must end with that failure.

use phalanx_comm::{
    CommError, Communicator, CommunicatorExt, Options, Rank, RankFailure, ReduceOp, WorldSize, agree_sum,
    run_ranks,
};
use phalanx_testkit::Faulty;
use std::sync::Arc;

/// Three steps as the training loop makes them: buckets in flight, then a small agreement.
fn steps(comm: &dyn Communicator) -> Result<f64, CommError> {
    let mut flat = comm.alloc(5000)?;
    let mut total = 0.0;
    for step in 0..3 {
        let mut back = flat.split_off(2000);
        back.fill(step as f32);
        let back = comm.start_all_reduce(back, ReduceOp::Sum)?;
        flat.fill(1.0);
        comm.progress()?;
        let front = comm.start_all_reduce(std::mem::take(&mut flat), ReduceOp::Sum)?;
        flat = front.wait()?;
        flat.try_unsplit(back.wait()?).expect("neighbours");
        total += agree_sum(comm, &[f64::from(flat[0])])?.into_inner()[0];
        comm.all_reduce_max(&mut [step])?;
    }
    Ok(total)
}

#[test]
fn whichever_collective_fails_all_ranks_end_with_its_failure() {
    let run = |countdown: u64| {
        run_ranks(WorldSize(3), &Options::default(), move |comm| {
            let faults = if comm.rank() == Rank(1) { countdown } else { u64::MAX };
            let faulty = Faulty::new(Arc::clone(&comm), faults);
            let total = steps(&faulty)?;
            Ok::<_, CommError>((total, faulty.calls()))
        })
    };
    let healthy = run(u64::MAX).unwrap();
    let (total, calls) = healthy[0];
    assert_eq!((total, calls), (27.0, 12));
    for k in 0..calls {
        let error = run(k).expect_err("the fault");
        let RankFailure::Failed { rank, error } = error.failure() else {
            panic!("fault {k}: {error:?}");
        };
        let text = format!("rank 1 gave up: fault injected into collective {k}");
        assert_eq!((*rank, error.to_string()), (Rank(1), text));
    }
}
