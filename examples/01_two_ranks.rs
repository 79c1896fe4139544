//! Two ranks as threads, each with samples of its own, fit one line together. Run: `cargo run -p phalanx --example 01-two-ranks`.
#![expect(clippy::print_stdout, reason = "an example shows its result")]
#![expect(clippy::panic_in_result_fn, reason = "an example checks its result")]

use phalanx::comm::{CommError, Options, WorldError, WorldSize, run_ranks};
use phalanx::prelude::*;

fn main() -> Result<(), WorldError<CommError>> {
    let fitted = run_ranks(WorldSize(2), &Options::default(), |comm| {
        // rank 0 has the points over x = 1 and 3, rank 1 those over 2 and 4; all lie on y = 3x
        let points = [[1.0_f32, 3.0], [2.0, 4.0]][comm.rank().index()];
        let mut slope = 0.0;
        for _ in 0..50 {
            let mut gradient = [points.map(|x| (slope * x - 3.0 * x) * x / 4.0).iter().sum::<f32>()];
            comm.all_reduce_sum(&mut gradient)?;
            slope -= 0.1 * gradient[0];
        }
        Ok::<_, CommError>(slope)
    })?;
    println!("slopes: {fitted:?}");
    assert_eq!(fitted[0].to_bits(), fitted[1].to_bits(), "all ranks hold the same model, to the last bit");
    assert!((fitted[0] - 3.0).abs() < 1e-5);
    Ok(())
}
