//! Whom the rule left out, over all rounds that changed the model.

/// Updates that were received, and those left out among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Rounds that left the model as it was.
    pub(super) unusable: u64,
    /// Updates of honest clients.
    pub(super) honest: u64,
    /// Updates of hostile clients.
    pub(super) hostile: u64,
    /// Updates of hostile clients that were left out.
    pub(super) caught: u64,
    /// Updates of honest clients that were left out.
    pub(super) wronged: u64,
}

impl Tally {
    /// Names and values, as a checkpoint holds them.
    pub(super) fn counters(&self) -> [(&'static str, u64); 5] {
        [
            ("unusable_rounds", self.unusable),
            ("honest_updates", self.honest),
            ("hostile_updates", self.hostile),
            ("caught", self.caught),
            ("wronged", self.wronged),
        ]
    }

    /// From what [`counters`](Self::counters) gave.
    pub(super) fn of(counter: impl Fn(&str) -> u64) -> Self {
        Tally {
            unusable: counter("unusable_rounds"),
            honest: counter("honest_updates"),
            hostile: counter("hostile_updates"),
            caught: counter("caught"),
            wronged: counter("wronged"),
        }
    }

    /// Counts one update.
    pub(super) fn count(&mut self, is_hostile: bool, is_left_out: bool) {
        let (updates, left_out) = match is_hostile {
            true => (&mut self.hostile, &mut self.caught),
            false => (&mut self.honest, &mut self.wronged),
        };
        *updates += 1;
        *left_out += u64::from(is_left_out);
    }

    /// The rate of true positives, where there was a hostile update.
    pub(super) fn caught(&self) -> Option<f64> {
        (self.hostile > 0).then(|| self.caught as f64 / self.hostile as f64)
    }

    /// The rate of false positives, where there was an honest update.
    pub(super) fn wronged(&self) -> Option<f64> {
        (self.honest > 0).then(|| self.wronged as f64 / self.honest as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_those_who_sent_something() {
        let mut tally = Tally::default();
        assert_eq!((tally.caught(), tally.wronged()), (None, None));
        for (is_hostile, is_left_out) in
            [(true, true), (false, true), (false, false), (false, false), (false, false)]
        {
            tally.count(is_hostile, is_left_out);
        }
        assert_eq!((tally.caught(), tally.wronged()), (Some(1.0), Some(0.25)));
        let counters = tally.counters();
        let back =
            Tally::of(|name| counters.iter().find(|(of, _)| *of == name).map_or(99, |(_, value)| *value));
        assert_eq!(back, tally);
    }
}
