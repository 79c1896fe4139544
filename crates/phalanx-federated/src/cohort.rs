//! Who takes part in a round: sampled, over-selected, thinned out by those who do not answer or come late.

use phalanx_tensor::rng::{Purpose, Stream};
use std::collections::BTreeSet;

/// How clients are sampled. Those without samples never are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// So many, each set of them as likely as any other.
    Uniform,
    /// Each by itself with the same chance: their number varies, as accounts of privacy need it.
    Poisson,
    /// So many, drawn one after the other with chances by their samples.
    Weighted,
}

/// Who takes part in a round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CohortConfig {
    /// How clients are sampled.
    pub sampling: Sampling,
    /// Clients whose updates a round takes; with [`Sampling::Poisson`], on average.
    pub per_round: usize,
    /// So many more are asked, as a share of `per_round`, and the first to answer count.
    pub over_select: f64,
    /// The chance that a client that was asked does not answer.
    pub dropout: f64,
    /// Standard deviation of the logarithm of a client's time for a sample, which stays its own over the rounds.
    pub spread: f64,
}

/// The clients of a round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cohort {
    /// Those whose updates count, in the order of their names.
    pub clients: Vec<u64>,
    /// Those who were asked in vain, in the order of their names.
    pub absent: Vec<Absent>,
}

/// A client that was asked in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absent {
    /// The client.
    pub client: u64,
    /// Why it has no part in the round.
    pub why: Why,
}

/// Why a client that was asked has no part in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It did not answer.
    Silent,
    /// Enough others had answered before.
    Late,
}

/// What the streams of a round are for.
#[derive(Clone, Copy)]
enum Draw {
    Sample,
    Answer,
}

const DRAWS: u64 = 2;

fn stream(seed: u64, round: u64, draw: Draw) -> Stream {
    let draw = match draw {
        Draw::Sample => 0,
        Draw::Answer => 1,
    };
    Stream::new(seed, Purpose::Cohort, DRAWS * round + draw)
}

/// Never 0, whose logarithm is none.
fn uniform(stream: &Stream, index: u64) -> f64 {
    f64::from(stream.uniform_f32(index)) + 0.5 / 16_777_216.0
}

impl CohortConfig {
    /// The cohort of a round among clients of `sizes` samples, a function of seed and round.
    ///
    /// Clients of `forced` answer in any case and first; those of `away` are not asked, unless they are forced.
    ///
    /// # Examples
    /// ```
    /// use phalanx_federated::{CohortConfig, Sampling};
    /// let config = CohortConfig { sampling: Sampling::Uniform, per_round: 3, over_select: 0.5, dropout: 0.0, spread: 0.3 };
    /// let sizes = [10, 10, 0, 10, 10, 10, 10];
    /// let cohort = config.draw(&sizes, &[6], &[], 1, 20);
    /// assert_eq!((cohort.clients.len(), cohort.absent.len()), (3, 1));
    /// assert!(cohort.clients.contains(&6) && !cohort.clients.contains(&2));
    /// assert_eq!(config.draw(&sizes, &[6], &[], 1, 20), cohort);
    /// ```
    #[must_use]
    pub fn draw(&self, sizes: &[u64], forced: &[u64], away: &[u64], seed: u64, round: u64) -> Cohort {
        let forced: BTreeSet<u64> = forced.iter().copied().collect();
        let has_samples = (0_u64..).zip(sizes).filter(|(_, samples)| **samples > 0).map(|(client, _)| client);
        let eligible: Vec<u64> =
            has_samples.filter(|client| !forced.contains(client) && !away.contains(client)).collect();
        let room = self.per_round.saturating_sub(forced.len());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive count")]
        let asked = (room as f64 * (1.0 + self.over_select)).ceil() as usize;
        let sampled = self.sample(eligible, asked, sizes, seed, round);
        let answers = stream(seed, round, Draw::Answer);
        let (silent, mut answering): (Vec<u64>, Vec<u64>) = sampled
            .into_iter()
            .partition(|client| self.dropout > 0.0 && uniform(&answers, *client) < self.dropout);
        // the cohort of a Poisson sample is all of it, whatever its size
        let most =
            if self.sampling == Sampling::Poisson && self.over_select == 0.0 { usize::MAX } else { room };
        answering
            .sort_by(|a, b| self.time(*a, sizes, seed).total_cmp(&self.time(*b, sizes, seed)).then(a.cmp(b)));
        let late = answering.split_off(most.min(answering.len()));
        let mut clients: Vec<u64> = answering.into_iter().chain(forced).collect();
        clients.sort_unstable();
        let absent = |why| move |client| Absent { client, why };
        let mut absent: Vec<Absent> = silent
            .into_iter()
            .map(absent(Why::Silent))
            .chain(late.into_iter().map(absent(Why::Late)))
            .collect();
        absent.sort_by_key(|absent| absent.client);
        Cohort { clients, absent }
    }

    fn sample(&self, mut eligible: Vec<u64>, count: usize, sizes: &[u64], seed: u64, round: u64) -> Vec<u64> {
        let stream = stream(seed, round, Draw::Sample);
        match self.sampling {
            Sampling::Uniform => {
                let count = count.min(eligible.len());
                for i in 0..count {
                    let left = (eligible.len() - i) as u64;
                    let chosen = usize::try_from(stream.below(i as u64, left)).unwrap_or(0);
                    eligible.swap(i, i + chosen);
                }
                eligible.truncate(count);
            }
            Sampling::Poisson => {
                let chance = count as f64 / eligible.len().max(1) as f64;
                eligible.retain(|client| uniform(&stream, *client) < chance);
            }
            Sampling::Weighted => {
                // Efraimidis and Spirakis: the greatest u^(1 / w) are such a sample
                let key = |client: &u64| {
                    let weight = sizes[usize::try_from(*client).unwrap_or(usize::MAX)] as f64;
                    uniform(&stream, *client).ln() / weight
                };
                eligible.sort_by(|a, b| key(b).total_cmp(&key(a)).then(a.cmp(b)));
                eligible.truncate(count);
            }
        }
        eligible
    }

    /// When a client would answer: its samples, at a speed of its own.
    fn time(&self, client: u64, sizes: &[u64], seed: u64) -> f64 {
        let speeds = Stream::new(seed, Purpose::Cohort, u64::MAX);
        let samples = sizes[usize::try_from(client).unwrap_or(usize::MAX)] as f64;
        samples * (self.spread * speeds.normal_f64(client)).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(sampling: Sampling) -> CohortConfig {
        CohortConfig { sampling, per_round: 5, over_select: 0.0, dropout: 0.0, spread: 0.0 }
    }

    /// How often each client took part in many rounds.
    fn counts(config: CohortConfig, sizes: &[u64], rounds: u64) -> Vec<f64> {
        let mut counts = vec![0.0; sizes.len()];
        for round in 1..=rounds {
            let cohort = config.draw(sizes, &[], &[], 9, round);
            assert!(cohort.clients.is_sorted_by(|a, b| a < b), "{cohort:?}");
            cohort.clients.iter().for_each(|client| counts[*client as usize] += 1.0);
        }
        counts
    }

    #[test]
    fn each_client_has_its_chance() {
        let sizes = [4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 0];
        for sampling in [Sampling::Uniform, Sampling::Poisson, Sampling::Weighted] {
            let counts = counts(config(sampling), &sizes, 2000);
            // half of them each round: 1000, with a deviation of 22
            assert!(
                counts[..10].iter().all(|count| (900.0..1100.0).contains(count)),
                "{sampling:?} {counts:?}"
            );
            assert_eq!(counts[10], 0.0, "no samples, no part");
        }
    }

    #[test]
    fn weights_are_the_samples() {
        let one = CohortConfig { per_round: 1, ..config(Sampling::Weighted) };
        let counts = counts(one, &[10, 30, 60], 4000);
        let need = [400.0, 1200.0, 2400.0];
        assert!(counts.iter().zip(need).all(|(got, need)| (got - need).abs() < 150.0), "{counts:?}");
    }

    #[test]
    fn poisson_cohorts_vary_in_size() {
        let sizes = [1; 40];
        let lens: BTreeSet<usize> = (1..60)
            .map(|round| config(Sampling::Poisson).draw(&sizes, &[], &[], 1, round).clients.len())
            .collect();
        assert!(lens.len() > 5, "{lens:?}");
    }

    #[test]
    fn the_slow_are_late_and_the_silent_are_gone() {
        let sizes: Vec<u64> = (1..=20).collect();
        let config = CohortConfig { per_round: 10, over_select: 1.0, ..config(Sampling::Uniform) };
        let cohort = config.draw(&sizes, &[], &[], 1, 1);
        // all are asked, and all are as fast: the ten with fewest samples answer first
        assert_eq!(cohort.clients, (0..10).collect::<Vec<_>>());
        assert!(cohort.absent.iter().all(|absent| absent.why == Why::Late && absent.client >= 10));
        let silent = CohortConfig { dropout: 0.5, ..config };
        let cohort = silent.draw(&sizes, &[], &[], 1, 1);
        assert!(cohort.absent.iter().any(|absent| absent.why == Why::Silent));
        assert_eq!(cohort.clients.len() + cohort.absent.len(), 20);
        let nobody = CohortConfig { dropout: 1.0, ..config };
        assert!(nobody.draw(&sizes, &[], &[], 1, 1).clients.is_empty());
    }

    #[test]
    fn the_forced_take_the_place_of_others() {
        let sizes = [5; 30];
        let cohort = config(Sampling::Uniform).draw(&sizes, &[29, 3], &[7], 4, 1);
        assert_eq!(cohort.clients.len(), 5);
        assert!(cohort.clients.contains(&29) && cohort.clients.contains(&3));
        for round in 1..100 {
            assert!(!config(Sampling::Uniform).draw(&sizes, &[], &[7], 4, round).clients.contains(&7));
        }
    }
}
