//! Means over steps in which the past fades.

/// An exponential moving average that starts at the first value and not at 0.
///
/// After the values `x_1 .. x_t` it is `sum b^(t-i) x_i / sum b^(t-i)`: the usual average over `1 - b^t`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RunningMean {
    decay: f64,
    sum: f64,
    weight: f64,
}

impl RunningMean {
    pub(crate) const WORDS: usize = 2;

    pub(crate) fn new(decay: f64) -> Self {
        RunningMean { decay, sum: 0.0, weight: 0.0 }
    }

    /// Takes a value in and gives the mean.
    pub(crate) fn push(&mut self, value: f64) -> f64 {
        self.push_with(self.decay, value)
    }

    /// As [`push`](Self::push), where the past fades by `decay` this time.
    pub(crate) fn push_with(&mut self, decay: f64, value: f64) -> f64 {
        self.sum = decay * self.sum + (1.0 - decay) * value;
        self.weight = decay * self.weight + (1.0 - decay);
        self.sum / self.weight
    }

    /// The mean, once there was a value.
    pub(crate) fn get(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }

    pub(crate) fn words(&self) -> [u64; Self::WORDS] {
        [self.sum.to_bits(), self.weight.to_bits()]
    }

    pub(crate) fn restore(&mut self, words: [u64; Self::WORDS]) {
        (self.sum, self.weight) = (f64::from_bits(words[0]), f64::from_bits(words[1]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_is_the_first_mean() {
        let mut mean = RunningMean::new(0.9);
        assert_eq!(mean.get(), None);
        assert!((mean.push(5.0) - 5.0).abs() < 1e-12);
        // (0.9 * 5 + 8) / 1.9
        assert!((mean.push(8.0) - 12.5 / 1.9).abs() < 1e-12);
        let mut plain = RunningMean::new(0.0);
        plain.push(1.0);
        assert_eq!(plain.push(7.0), 7.0);
    }
}
