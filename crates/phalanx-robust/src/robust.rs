//! A rule with its pre-aggregators under the contract that all share.

use crate::report::{Report, Stage};
use crate::rule::{Decision, Finish, Form};
use crate::{Laws, PreAggregator, Round, Rule, Updates};
use phalanx_grad::{
    Axis, Blocks, GradError, GradSet, Ranks, Reason, Reduce, Rejected, Scratch, Senders, StateTensor,
};
use phalanx_tensor::rows::Statistic;
use phalanx_tensor::{Backend, Float};
use std::cell::OnceCell;

/// Makes one vector of many, of which up to `f` may be anything.
///
/// Before any rule, vectors that cannot be used are dropped and counted as hostile: those with NaN or infinite
/// numbers, of another length, or longer than [`with_max_norm`](Self::with_max_norm) allows. Of `n` vectors with
/// `b` such, the rule sees `n - b` and bears `f - b`. More than `f` are an error: the assumption under which the
/// rule is safe does not hold.
///
/// # Shapes
/// `n` vectors of `d` in, `d` out.
///
/// # Numerics
/// Decisions rest on `f64` sums in a fixed order: they are the same for any number of threads and any order of
/// arrival. The result is rounded to `f32` once.
///
/// # Errors
/// [`GradError::TooFew`] when fewer vectors are left than the rule needs, [`GradError::TooManyInvalid`] when more than
/// `f` had to be dropped. On an error, neither the rule's state nor the inputs have changed, and `out` has no meaning.
///
/// # Examples
/// ```
/// use phalanx_grad::GradError;
/// use phalanx_robust::{Krum, Nnm, Robust, TrimmedMean, Updates};
///
/// let honest = [[1.0, 2.0], [1.1, 2.1], [0.9, 1.9], [1.0, 2.1], [1.1, 1.9]];
/// let mut rows: Vec<&[f32]> = honest.iter().map(|row| &row[..]).collect();
/// rows.extend([&[f32::NAN, 0.0][..], &[-90.0, 70.0]]);
///
/// let mut out = [0.0; 2];
/// let mut rule = Robust::new(2, TrimmedMean).behind(Nnm);
/// let report = rule.aggregate(1, &Updates::new(2, &rows), &mut out)?;
/// assert!((out[0] - 1.0).abs() < 0.15 && (out[1] - 2.0).abs() < 0.15);
/// assert_eq!(report.rejected[0].told(report.senders), "rank 5 has 1 numbers that are not finite");
///
/// let few = Robust::new(3, Krum::default()).aggregate(1, &Updates::new(2, &rows), &mut out);
/// assert_eq!(few.unwrap_err().to_string(), "krum needs 7 gradients over ranks, got 6");
/// # Ok::<(), GradError>(())
/// ```
#[derive(Debug)]
pub struct Robust {
    hostile: usize,
    pre: Vec<Box<dyn PreAggregator>>,
    rule: Box<dyn Rule>,
    max_norm: Option<f64>,
    momentum: f64,
    threads: usize,
    senders: Senders,
    report: Report,
}

impl Robust {
    /// A rule that bears `hostile` vectors, on one thread.
    pub fn new(hostile: usize, rule: impl Rule + 'static) -> Self {
        Robust {
            hostile,
            pre: Vec::new(),
            rule: Box::new(rule),
            max_norm: None,
            momentum: 0.0,
            threads: 1,
            senders: Senders::default(),
            report: Report::default(),
        }
    }

    /// The same rule behind one more pre-aggregator: the last one given is the last to act before the rule.
    #[must_use]
    pub fn behind(mut self, pre: impl PreAggregator + 'static) -> Self {
        self.pre.push(Box::new(pre));
        self
    }

    /// The same rule, for which vectors longer than `limit` are invalid.
    #[must_use]
    pub fn with_max_norm(mut self, limit: f64) -> Self {
        self.max_norm = Some(limit);
        self
    }

    /// The same rule for gradients to which each rank of a training run applies momentum first; see
    /// [`Reduce::momentum`]. The noise of samples, behind which attacks hide, is smaller then.
    ///
    /// [`aggregate`](Self::aggregate) takes vectors as they are.
    ///
    /// # Reference
    /// Karimireddy, He and Jaggi, "Learning from History for Byzantine Robust Optimization", ICML 2021.
    #[must_use]
    pub fn with_momentum(mut self, beta: f64) -> Self {
        self.momentum = beta;
        self
    }

    /// The same rule on so many threads; the result does not depend on it.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// The same rule, over vectors of such senders, as which errors and reports speak of them.
    #[must_use]
    pub fn over(mut self, senders: Senders) -> Self {
        self.senders = senders;
        self
    }

    /// The rule.
    #[must_use]
    pub fn rule(&self) -> &dyn Rule {
        &*self.rule
    }

    /// The pre-aggregators, the first to act first.
    #[must_use]
    pub fn pre_aggregators(&self) -> &[Box<dyn PreAggregator>] {
        &self.pre
    }

    /// How many hostile vectors it bears.
    #[must_use]
    pub fn hostile(&self) -> usize {
        self.hostile
    }

    /// The laws that hold for the rule behind its pre-aggregators.
    #[must_use]
    pub fn laws(&self) -> Laws {
        self.pre.iter().fold(self.rule.laws(), |laws, pre| laws.of_both(pre.laws()))
    }

    /// The constant of the rule behind its pre-aggregators for `n` vectors, where it is known; see [`Rule::kappa`].
    #[must_use]
    pub fn kappa(&self, n: usize) -> Option<f64> {
        let of_rule = self.rule.kappa(n, self.hostile);
        self.pre.iter().rev().fold(of_rule, |kappa, pre| pre.kappa(kappa?, n, self.hostile))
    }

    /// The least number of vectors with which it bears all it is set for.
    #[must_use]
    pub fn min_n(&self) -> usize {
        self.pre
            .iter()
            .map(|pre| pre.min_n(self.hostile))
            .chain([self.rule.min_n(self.hostile), 1])
            .max()
            .unwrap_or(1)
    }

    /// Whether each of several ranks can hold a part of the coordinates; see [`Rule::is_shardable`].
    #[must_use]
    pub fn is_shardable(&self) -> bool {
        self.rule.is_shardable() && self.pre.iter().all(|pre| pre.is_shardable())
    }

    /// The account of the last round that succeeded.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Everything that later rounds depend on.
    #[must_use]
    pub fn state(&self) -> Vec<StateTensor> {
        self.rule.state()
    }

    /// What later rounds depend on beside [`state`](Self::state), of which each rank has its coordinates after a set that
    /// ranks share; as [`Reduce::state_in_parts`].
    #[must_use]
    pub fn state_in_parts(&self) -> Vec<StateTensor> {
        self.rule.state_in_parts()
    }

    /// Takes back what [`state`](Self::state) gave, and the parts of [`state_in_parts`](Self::state_in_parts) joined.
    ///
    /// # Errors
    /// As [`Rule::restore`].
    pub fn restore(&mut self, state: &[StateTensor]) -> Result<(), GradError> {
        self.rule.restore(state)
    }

    /// Writes the result of a round and tells what became of whom.
    ///
    /// # Errors
    /// See the type. [`GradError::Length`] when `out_d` is not as long as the vectors.
    pub fn aggregate(
        &mut self,
        step: u64,
        updates: &Updates<'_>,
        out_d: &mut [f32],
    ) -> Result<Report, GradError> {
        let report = self.attempt(step, updates, out_d)?;
        self.rule.settle(out_d);
        self.report = report.clone();
        Ok(report)
    }

    /// As [`aggregate`](Self::aggregate), of all coordinates or those that are here, with nothing noted of it.
    pub(crate) fn attempt(
        &mut self,
        step: u64,
        updates: &Updates<'_>,
        out_d: &mut [f32],
    ) -> Result<Report, GradError> {
        self.attempted(step, updates, out_d).map_err(|error| error.over(self.senders))
    }

    fn attempted(
        &mut self,
        step: u64,
        updates: &Updates<'_>,
        out_d: &mut [f32],
    ) -> Result<Report, GradError> {
        crate::updates::check_length("the result of a rule", out_d.len(), updates.dim())?;
        let mut updates = updates.clone();
        let received = updates.len();
        let mut rejected = updates.reject_lengths();
        if let Some(limit) = self.max_norm {
            rejected.extend(updates.reject_longer(limit, self.threads)?);
        }
        // The numbers are looked at by whatever reads them first; only when one is not finite are the senders sought.
        // So they are when vectors are too few: without those who are known to be hostile, fewer are needed.
        match self.reduced(step, &updates, received, &rejected, out_d) {
            Err(error @ (GradError::NonFinite { .. } | GradError::TooFew { .. })) => {
                let more = updates.reject_nonfinite(self.threads)?;
                if more.is_empty() {
                    return Err(error);
                }
                rejected.extend(more);
                self.reduced(step, &updates, received, &rejected, out_d)
            }
            other => other,
        }
    }

    /// Writes the result of a round over a set, of which ranks may hold a range of coordinates each.
    ///
    /// Of such a set, each rank reduces its part, if the rule [can](Self::is_shardable): inner products are summed over all
    /// ranks, and the parts of the result are joined. `reference` are the parameters that the set's vectors are updates of, for
    /// rules that look at the models behind them. What became of whom is in [`report`](Self::report).
    ///
    /// # Collective
    /// Where the set is one that ranks share: every rank, with the same reference.
    ///
    /// # Errors
    /// See the type. [`GradError::Length`] when `reference` or `out_d` is not as long as the vectors.
    pub fn aggregate_set<B>(
        &mut self,
        step: u64,
        set: &dyn GradSet<Ranks, B>,
        reference: Option<&[f32]>,
        out_d: &mut [f32],
    ) -> Result<(), GradError>
    where
        B: for<'a> Backend<Elem = f32, View<'a> = &'a [f32], ViewMut<'a> = &'a mut [f32]>,
    {
        let (n, d) = (set.len(), set.dim());
        let ids: Vec<u64> = (0..n).map(|i| set.id(i)).collect();
        let samples: Vec<u64> = (0..n).map(|i| set.samples(i)).collect();
        if let Some(reference) = reference {
            crate::updates::check_length("the reference of updates", reference.len(), d)?;
        }
        if let Some(trusted) = set.trusted() {
            crate::updates::check_length("the trusted update", trusted.len(), d)?;
        }
        if let Some(shard) = set.shard().filter(|_| self.is_shardable()) {
            let mut updates = Updates::of_shard(n, d, shard).with_samples(&samples)?.with_ids(&ids)?;
            let here = Blocks::new(d).coordinates(shard.blocks());
            if let Some(reference) = reference {
                updates = updates.with_reference(&reference[here.clone()])?;
            }
            if let Some(trusted) = set.trusted() {
                updates = updates.with_trusted(&trusted[here])?;
            }
            let mut part = vec![0.0; updates.dim()];
            let report = self.attempt(step, &updates, &mut part)?;
            shard.gather(&part, out_d)?;
            self.rule.settle(out_d);
            self.report = report;
            return Ok(());
        }
        let mut copies: Vec<Vec<f32>> = Vec::new();
        for i in (0..n).filter(|i| set.view(*i).is_none()) {
            let mut copy = vec![0.0; d];
            set.row(i, &mut copy)?;
            copies.push(copy);
        }
        let mut copies = copies.iter();
        let views =
            (0..n).map(|i| set.view(i).or_else(|| copies.next().map(Vec::as_slice)).unwrap_or_default());
        let rows: Vec<&[f32]> = views.collect();
        let mut updates = Updates::new(d, &rows).with_samples(&samples)?.with_ids(&ids)?;
        if let Some(reference) = reference {
            updates = updates.with_reference(reference)?;
        }
        if let Some(trusted) = set.trusted() {
            updates = updates.with_trusted(trusted)?;
        }
        self.aggregate(step, &updates, out_d)?;
        Ok(())
    }

    /// The vectors that the rule would see: those that the pre-aggregators make, in the order of names.
    ///
    /// # Errors
    /// As [`aggregate`](Self::aggregate).
    pub fn mixed(&mut self, step: u64, updates: &Updates<'_>) -> Result<Vec<Vec<f32>>, GradError> {
        let received = updates.len();
        let mut updates = updates.clone();
        let lengths = updates.reject_lengths();
        // Measuring may need no number of a vector that is not finite: they are sought first.
        let numbers = updates.reject_nonfinite(self.threads)?;
        let rejected: Vec<Rejected> = lengths.into_iter().chain(numbers).collect();
        let senders = self.senders;
        let begun = self.begin(step, &updates, received, &rejected);
        let (round, _) = begun.map_err(|error| error.over(senders))?;
        Ok(round.to_rows())
    }

    fn reduced(
        &mut self,
        step: u64,
        updates: &Updates<'_>,
        received: usize,
        rejected: &[Rejected],
        out_d: &mut [f32],
    ) -> Result<Report, GradError> {
        let (round, mut report) = self.begin(step, updates, received, rejected)?;
        enough(report.rule, round.n(), self.rule.min_n(round.hostile))?;
        let decision = self.rule.decide(&round)?;
        let finite = decision.apply(&round, out_d);
        if !round.vectors.everywhere(finite)? {
            let what = Senders::Ranks.rule();
            return Err(GradError::NonFinite { what, count: 1 });
        }
        let ids: Vec<u64> = updates.clients.iter().map(|client| client.id).collect();
        decision.account(&round, &ids, &mut report);
        report.rejected.sort_by_key(|rejected| rejected.id);
        Ok(report)
    }

    /// The round that the rule sees, and the report so far.
    fn begin<'a>(
        &mut self,
        step: u64,
        updates: &Updates<'a>,
        received: usize,
        rejected: &[Rejected],
    ) -> Result<(Round<'a>, Report), GradError> {
        let (rule, invalid) = (self.rule.name(), received - updates.len());
        if invalid > self.hostile {
            let (axis, hostile) = (Ranks::NAME, self.hostile);
            return Err(GradError::TooManyInvalid { rule, axis, got: received, invalid, hostile });
        }
        let hostile = self.hostile - invalid;
        let (senders, valid) = (self.senders, updates.len());
        let mut report = Report { rule, senders, received, valid, hostile, ..Report::default() };
        report.rejected = rejected.to_vec();
        let mut round = Round {
            step,
            hostile,
            ids: updates.clients.iter().map(|client| client.id).collect(),
            samples: updates.clients.iter().map(|client| client.samples).collect(),
            vectors: updates.vectors(self.threads),
            reference: updates.reference,
            trusted: updates.trusted,
            mixing: None,
            raw_gram: OnceCell::new(),
            gram: OnceCell::new(),
            norms_sq: OnceCell::new(),
        };
        for pre in &mut self.pre {
            enough(pre.name(), round.n(), pre.min_n(round.hostile))?;
            let mixed = pre.mix(&round)?;
            report.stages.extend(mixed.stage(pre.name(), &round));
            let before = round.ids.clone();
            round = mixed.applied_to(round);
            // A filter's choice is known here; what others leave out shows in the weights.
            report.rejected.extend(left_out(pre.name(), &before, &round, &report.stages));
        }
        Ok((round, report))
    }
}

/// A rule over ranks, for the loop; see [`Robust::aggregate_set`].
impl<B> Reduce<Ranks, B> for Robust
where
    B: for<'a> Backend<Elem = f32, View<'a> = &'a [f32], ViewMut<'a> = &'a mut [f32]>,
{
    fn name(&self) -> &'static str {
        self.rule.name()
    }

    fn momentum(&self) -> f64 {
        self.momentum
    }

    fn reduce(
        &mut self,
        step: u64,
        set: &dyn GradSet<Ranks, B>,
        out_d: &mut [f32],
        _scratch: &mut Scratch,
    ) -> Result<(), GradError> {
        self.aggregate_set(step, set, None, out_d)
    }

    fn rejected(&self) -> &[Rejected] {
        &self.report.rejected
    }

    fn state(&self) -> Vec<StateTensor> {
        Robust::state(self)
    }

    fn state_in_parts(&self) -> Vec<StateTensor> {
        Robust::state_in_parts(self)
    }

    fn restore(&mut self, state: &[StateTensor]) -> Result<(), GradError> {
        Robust::restore(self, state)
    }
}

impl Decision {
    /// Writes the result and says whether it is finite.
    fn apply(&self, round: &Round<'_>, out_d: &mut [f32]) -> bool {
        let vectors = &round.vectors;
        let finite = match &self.form {
            Form::Sum { weights_n, anchors } => {
                let anchors: Vec<(f64, &[f32])> =
                    anchors.iter().map(|(weight, row)| (*weight, &**row)).collect();
                match &round.mixing {
                    Some(mixing) => vectors.weighted_sum(&mixing.pulled_back(weights_n), &anchors, out_d),
                    None => vectors.weighted_sum(weights_n, &anchors, out_d),
                }
            }
            Form::Columns { chosen, statistic } => {
                vectors.columns(round.mixing.as_ref(), chosen, *statistic, out_d)
            }
        };
        finite && self.finish.apply(round, out_d)
    }

    /// Adds scores, weights and those without a part to the report.
    fn account(self, round: &Round<'_>, ids: &[u64], report: &mut Report) {
        let by = report.rule;
        let absent: Vec<usize> = match &self.form {
            Form::Sum { weights_n, .. } => {
                let weights =
                    round.mixing.as_ref().map_or_else(|| weights_n.clone(), |m| m.pulled_back(weights_n));
                report.weights = ids.iter().copied().zip(weights.iter().copied()).collect();
                (0..ids.len()).filter(|i| weights[*i] == 0.0).collect()
            }
            Form::Columns { chosen, .. } if round.mixing.is_none() => {
                (0..ids.len()).filter(|i| !chosen.contains(i)).collect()
            }
            Form::Columns { .. } => Vec::new(),
        };
        // Scores are of the vectors that the rule saw, which are the senders' unless they were averaged into fewer.
        let score_of = |id: u64| {
            let at = round.ids.iter().position(|other| *other == id)?;
            self.scores.get(at).copied()
        };
        for i in absent {
            if !report.rejected.iter().any(|rejected| rejected.id == ids[i]) {
                let (id, reason) = (ids[i], Reason::LeftOut { by });
                report.rejected.push(Rejected { id, reason, score: score_of(id) });
            }
        }
        let (ids, scores, features) = (round.ids.clone(), self.scores, self.features);
        report.stages.push(Stage { by, ids, scores, features });
    }
}

impl Finish {
    fn apply(self, round: &Round<'_>, out_d: &mut [f32]) -> bool {
        match self {
            Finish::Nothing => true,
            Finish::Sign => {
                out_d.iter_mut().for_each(|x| *x = if *x == 0.0 { 0.0 } else { x.signum() });
                true
            }
            Finish::FlipBelow(threshold) => {
                let all: Vec<usize> = (0..round.n()).collect();
                let mut agreement = vec![0.0; out_d.len()];
                let sum = Statistic::SignSum;
                let finite = round.vectors.columns(round.mixing.as_ref(), &all, sum, &mut agreement);
                let weak = |sum: &f32| f64::from(sum.abs()) < threshold as f64;
                out_d.iter_mut().zip(&agreement).filter(|(_, sum)| weak(sum)).for_each(|(x, _)| *x = -*x);
                finite
            }
            Finish::Noise(deviation, stream) => {
                for (k, x) in (round.coordinates().start as u64..).zip(&mut *out_d) {
                    *x = f32::from_f64(f64::from(*x) + deviation * stream.normal_f64(k));
                }
                true
            }
        }
    }
}

/// Those whose vector a stage left out whole, with the score it gave them.
fn left_out(by: &'static str, before: &[u64], round: &Round<'_>, stages: &[Stage]) -> Vec<Rejected> {
    let is_filter = round
        .mixing
        .as_ref()
        .is_some_and(|mixing| mixing.weights().iter().all(|weight| *weight == 0.0 || *weight == 1.0));
    let stage = stages.last().filter(|stage| is_filter && stage.by == by);
    let Some(stage) = stage else { return Vec::new() };
    let gone = (0..before.len()).filter(|i| !round.ids.contains(&before[*i]));
    let reject = |i: usize| Rejected {
        id: before[i],
        reason: Reason::LeftOut { by },
        score: stage.scores.get(i).copied(),
    };
    gone.map(reject).collect()
}

fn enough(rule: &'static str, got: usize, need: usize) -> Result<(), GradError> {
    let need = need.max(1);
    if got >= need { Ok(()) } else { Err(GradError::TooFew { rule, axis: Ranks::NAME, got, need }) }
}
