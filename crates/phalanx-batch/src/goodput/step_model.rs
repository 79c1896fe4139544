//! How long a step takes, as a function of the batch, fitted to steps that were timed.

/// The mean of steps of one size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// Samples that a rank takes at once.
    pub micro: f64,
    /// How many times it does so in a step.
    pub accumulation: f64,
    /// Seconds of a step.
    pub seconds: f64,
    /// Seconds of it that communication took and nothing hid.
    pub exposed: f64,
}

impl Observation {
    /// Seconds of one part without communication.
    fn part(&self) -> f64 {
        (self.seconds - self.exposed).max(0.0) / self.accumulation
    }

    /// Seconds of the last part, which communication follows or overlaps.
    fn last(&self) -> f64 {
        self.seconds - (self.accumulation - 1.0) * self.part()
    }
}

/// `T = (A - 1) T_acc + (T_acc^gamma + T_net^gamma)^(1 / gamma)`, with `T_acc = fixed + per_sample m` for a part of `m` samples and `A`
/// parts a step.
///
/// `gamma` 1 is no overlap of computing and communication, 10 nearly all.
///
/// # Units
/// Seconds.
///
/// # Examples
/// ```
/// use phalanx_batch::{Observation, StepModel};
/// // 2 ms and 0.1 ms a sample, nothing to communicate
/// let timed = |micro: f64| Observation { micro, accumulation: 1.0, seconds: 2e-3 + 1e-4 * micro, exposed: 0.0 };
/// let model = StepModel::fit(&[timed(16.0), timed(32.0), timed(128.0)]).expect("three sizes");
/// assert!((model.seconds(256.0, 1.0) - 27.6e-3).abs() < 1e-3);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepModel {
    /// Seconds of a part, however few its samples.
    pub fixed: f64,
    /// Seconds of a sample.
    pub per_sample: f64,
    /// Seconds of communication.
    pub net: f64,
    /// How well it is hidden, from 1 to 10.
    pub gamma: f64,
}

impl StepModel {
    /// The model of least squared relative error; none without an observation.
    ///
    /// With one size of parts, half of their time counts as fixed.
    #[must_use]
    pub fn fit(observations: &[Observation]) -> Option<Self> {
        let seen: Vec<&Observation> = observations.iter().filter(|o| o.part() > 0.0).collect();
        let first = seen.first()?;
        let (fixed, per_sample) = match seen.iter().any(|o| o.micro != first.micro) {
            true => line(&seen),
            false => {
                let mean = seen.iter().map(|o| o.part()).sum::<f64>() / seen.len() as f64;
                (mean / 2.0, mean / 2.0 / first.micro)
            }
        };
        let model = StepModel { fixed, per_sample, net: 0.0, gamma: 1.0 };
        let gammas = (0..=20).map(|i| 10.0_f64.powf(f64::from(i) / 20.0));
        let fitted = gammas.map(|gamma| StepModel { gamma, ..model }.with_net(&seen));
        fitted.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(model, _)| model)
    }

    /// Seconds of a step of `accumulation` parts of `micro` samples.
    #[must_use]
    pub fn seconds(&self, micro: f64, accumulation: f64) -> f64 {
        let part = self.fixed + self.per_sample * micro;
        let last = (part.powf(self.gamma) + self.net.powf(self.gamma)).powf(1.0 / self.gamma);
        (accumulation - 1.0) * part + last
    }

    /// The time of communication that fits best for this `gamma`, and the error then.
    fn with_net(self, seen: &[&Observation]) -> (Self, f64) {
        let longest = seen.iter().map(|o| o.last()).fold(0.0, f64::max);
        let error = |net: f64| {
            let model = StepModel { net, ..self };
            let squares = seen.iter().map(|o| (model.seconds(o.micro, 1.0) / o.last()).ln().powi(2));
            squares.sum::<f64>() / seen.len() as f64 + 1e-3 * (self.gamma - 1.0).powi(2)
        };
        // golden-section search between nothing and the longest step
        let inverse = (5.0_f64.sqrt() - 1.0) / 2.0;
        let (mut low, mut high) = (0.0, longest);
        for _ in 0..60 {
            let (a, b) = (high - inverse * (high - low), low + inverse * (high - low));
            if error(a) <= error(b) { high = b } else { low = a }
        }
        let net = (low + high) / 2.0;
        let net = if error(0.0) <= error(net) { 0.0 } else { net };
        (StepModel { net, ..self }, error(net))
    }
}

/// Least squares of the relative error of a line through the times of parts; neither coefficient is negative.
fn line(seen: &[&Observation]) -> (f64, f64) {
    let (mut s0, mut s1, mut s2, mut t0, mut t1) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for o in seen {
        let (x, y) = (o.micro, o.part());
        let w = 1.0 / (y * y);
        (s0, s1, s2) = (s0 + w, s1 + w * x, s2 + w * x * x);
        (t0, t1) = (t0 + w * y, t1 + w * x * y);
    }
    let slope = (s0 * t1 - s1 * t0) / (s0 * s2 - s1 * s1);
    let fixed = (t0 - slope * s1) / s0;
    if slope <= 0.0 {
        (t0 / s0, 0.0)
    } else if fixed <= 0.0 {
        (0.0, t1 / s2)
    } else {
        (fixed, slope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed(model: &StepModel, micro: f64, accumulation: f64) -> Observation {
        let seconds = model.seconds(micro, accumulation);
        let computing = accumulation * (model.fixed + model.per_sample * micro);
        Observation { micro, accumulation, seconds, exposed: seconds - computing }
    }

    #[test]
    fn a_model_is_found_again_from_its_own_times() {
        for truth in [
            StepModel { fixed: 1e-3, per_sample: 2e-4, net: 5e-3, gamma: 1.0 },
            StepModel { fixed: 4e-3, per_sample: 5e-5, net: 2e-3, gamma: 2.0 },
            StepModel { fixed: 0.0, per_sample: 1e-4, net: 0.0, gamma: 1.0 },
        ] {
            let sizes = [(8.0, 1.0), (32.0, 1.0), (64.0, 1.0), (64.0, 4.0)];
            let seen: Vec<Observation> = sizes.iter().map(|(m, a)| timed(&truth, *m, *a)).collect();
            let model = StepModel::fit(&seen).expect("seen");
            for (micro, accumulation) in [(16.0, 1.0), (128.0, 1.0), (64.0, 8.0)] {
                let (got, want) = (model.seconds(micro, accumulation), truth.seconds(micro, accumulation));
                assert!((got / want - 1.0).abs() < 0.05, "{truth:?}: {got}, want {want}");
            }
        }
    }

    #[test]
    fn one_size_is_split_in_half() {
        let seen = Observation { micro: 10.0, accumulation: 1.0, seconds: 2.0, exposed: 0.0 };
        let model = StepModel::fit(&[seen]).expect("seen");
        assert_eq!((model.fixed, model.per_sample, model.net), (1.0, 0.1, 0.0));
        assert_eq!(StepModel::fit(&[]), None);
    }

    #[test]
    fn times_that_fall_with_the_samples_have_no_negative_slope() {
        let seen = |micro, seconds| Observation { micro, accumulation: 1.0, seconds, exposed: 0.0 };
        let model = StepModel::fit(&[seen(10.0, 2.0), seen(20.0, 1.0)]).expect("seen");
        assert!(model.per_sample == 0.0 && model.seconds(1e6, 1.0) > 0.0, "{model:?}");
    }
}
