//! Class shares by a Dirichlet distribution.

use super::{CLASSES, check, shuffled, stream};
use crate::error::DataError;

/// Draws before a partition is given up.
const DRAWS: u64 = 1000;

pub(super) fn split(
    labels: &[u32],
    clients: usize,
    alpha: f64,
    least: usize,
    seed: u64,
) -> Result<Vec<Vec<usize>>, DataError> {
    check("partition.alpha", alpha, alpha > 0.0 && alpha.is_finite(), "a number above 0")?;
    let samples = labels.len();
    let refused = |got, draws| DataError::Partition {
        partition: "dirichlet",
        samples,
        clients,
        got,
        need: least,
        draws,
    };
    if least.saturating_mul(clients) > samples {
        return Err(refused(samples / clients, 0));
    }
    let classes = labels.iter().max().map_or(0, |most| *most as usize + 1);
    let mut of_class: Vec<Vec<usize>> = vec![Vec::new(); classes];
    shuffled(samples, seed).into_iter().for_each(|i| of_class[labels[i] as usize].push(i));
    let mut best = 0;
    for draw in 0..DRAWS {
        let split = once(&of_class, samples, clients, alpha, seed, draw);
        let smallest = split.iter().map(Vec::len).min().unwrap_or(0);
        if smallest >= least {
            return Ok(split);
        }
        best = best.max(smallest);
    }
    Err(refused(best, DRAWS))
}

fn once(
    of_class: &[Vec<usize>],
    samples: usize,
    clients: usize,
    alpha: f64,
    seed: u64,
    draw: u64,
) -> Vec<Vec<usize>> {
    let mut split: Vec<Vec<usize>> = vec![Vec::new(); clients];
    for (class, members) in (0_u64..).zip(of_class) {
        let shares = shares(clients, alpha, seed, draw * of_class.len() as u64 + class);
        // whoever has an even share of all gets no more, unless everybody has
        let has_room: Vec<bool> = split.iter().map(|held| held.len() * clients < samples).collect();
        let is_open = |client: usize| has_room[client] || !has_room.contains(&true);
        let total: f64 = (0..clients).filter(|client| is_open(*client)).map(|client| shares[client]).sum();
        let (mut sum, mut start) = (0.0, 0);
        let last = (0..clients).rev().find(|client| is_open(*client)).unwrap_or(0);
        for client in (0..clients).filter(|client| is_open(*client)) {
            sum += shares[client];
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "0 to the number of samples"
            )]
            let end =
                if client == last { members.len() } else { (sum / total * members.len() as f64) as usize };
            let end = end.clamp(start, members.len());
            split[client].extend_from_slice(&members[start..end]);
            start = end;
        }
    }
    split
}

/// A draw from the symmetric Dirichlet distribution, up to a common factor: the greatest is 1.
fn shares(clients: usize, alpha: f64, seed: u64, draw: u64) -> Vec<f64> {
    let logs: Vec<f64> =
        (0..clients as u64).map(|client| log_gamma_variate(alpha, seed, draw, client)).collect();
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // small alphas give variates that only logarithms can hold
    logs.into_iter().map(|log| (log - most).exp()).collect()
}

/// The logarithm of a draw from the gamma distribution.
///
/// # Reference
/// Marsaglia and Tsang, "A simple method for generating gamma variables", ACM TOMS 26(3), 2000.
fn log_gamma_variate(shape: f64, seed: u64, draw: u64, client: u64) -> f64 {
    /// Each attempt is refused with a chance below one in ten.
    const ATTEMPTS: u64 = 1 << 10;
    let (normals, uniforms) = (stream(seed, CLASSES + 2 * draw), stream(seed, CLASSES + 2 * draw + 1));
    let uniform =
        |k: u64| f64::midpoint(f64::from(uniforms.uniform_f32(k)), f64::from(uniforms.uniform_f32(k)) + 6e-8);
    // below 1, a draw of shape + 1 times a power of a uniform number
    let (raised, boost) =
        if shape < 1.0 { (shape + 1.0, uniform(client * ATTEMPTS).ln() / shape) } else { (shape, 0.0) };
    let d = raised - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    for attempt in 1..ATTEMPTS {
        let k = client * ATTEMPTS + attempt;
        let x = normals.normal_f64(k);
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && uniform(k).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return (d * v).ln() + boost;
        }
    }
    d.ln() + boost
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and variance of a gamma variate are its shape.
    #[test]
    fn variates_have_the_moments_of_their_distribution() {
        for shape in [0.3, 1.0, 4.0] {
            let n = 20_000_u64;
            let draws: Vec<f64> = (0..n).map(|client| log_gamma_variate(shape, 5, 0, client).exp()).collect();
            let mean = draws.iter().sum::<f64>() / n as f64;
            let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
            // five standard deviations of the mean; the variance has longer tails
            assert!((mean - shape).abs() < 5.0 * (shape / n as f64).sqrt(), "{shape}: mean {mean}");
            assert!((variance / shape - 1.0).abs() < 0.12, "{shape}: variance {variance}");
        }
    }

    #[test]
    fn tiny_concentrations_give_numbers() {
        for shares in (0..50).map(|draw| shares(100, 1e-3, 1, draw)) {
            assert!(shares.iter().all(|share| share.is_finite()) && shares.contains(&1.0));
        }
    }
}
