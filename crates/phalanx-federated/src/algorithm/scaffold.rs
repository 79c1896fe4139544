//! SCAFFOLD: control variates take the drift out of local steps.

use super::{Algorithm, Answers, Work, advance, narrow, same_length};
use phalanx_grad::{GradError, StateReader, StateTensor};

/// Clients step along `g_i(y) - c_i + c`; afterwards `c_i <- c_i - c + (w - y) / (K lr)` for `K` steps, and the server's `c` moves
/// by the sum of these changes over all clients there are.
///
/// A client's change is a function of what it sent, `-c - x_i / (K lr)`, so that nothing but updates travels and a client has no
/// way to lie about its variate alone. Clients that the rule left out keep theirs, and change nothing. The variates of
/// clients that ever took part are kept by the ranks, one vector each: [`ClientStore`](crate::ClientStore).
///
/// # Reference
/// Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML 2020; option II.
///
/// # Deviation
/// The published algorithm is for plain SGD. Steps with momentum count as [`Work::amount`] says, those of other optimizers as steps of
/// plain SGD of their learning rate.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaffold {
    server_lr: f64,
    control: Vec<f32>,
}

impl Scaffold {
    /// With all variates at 0.
    #[must_use]
    pub fn new(server_lr: f64) -> Self {
        Scaffold { server_lr, control: Vec::new() }
    }
}

impl Algorithm for Scaffold {
    fn name(&self) -> &'static str {
        "scaffold"
    }

    fn prepare(&mut self, dim: usize) {
        self.control = vec![0.0; dim];
    }

    fn control(&self) -> Option<&[f32]> {
        Some(&self.control)
    }

    fn step(&mut self, answers: &Answers<'_>, mean_d: &[f32], params_d: &mut [f32]) -> Result<(), GradError> {
        same_length("the update of a round", mean_d.len(), self.control.len())?;
        same_length("the server's model", params_d.len(), self.control.len())?;
        let moved: Vec<f64> = answers.each().iter().map(|answer| -1.0 / scale(&answer.work)).collect();
        let sum = answers.sum(&moved)?;
        let (count, clients) = (answers.each().len() as f64, answers.clients().max(1) as f64);
        advance(self.server_lr, mean_d, params_d)?;
        for (control, sum) in self.control.iter_mut().zip(sum) {
            *control = narrow(f64::from(*control) + (f64::from(sum) - count * f64::from(*control)) / clients);
        }
        Ok(())
    }

    fn state(&self) -> Vec<StateTensor> {
        vec![StateTensor::new("control", &self.control)]
    }

    fn restore(&mut self, state: &[StateTensor]) -> Result<(), GradError> {
        let mut reader = StateReader::new(self.name(), state);
        let control = reader.elems::<f32>("control", self.control.len())?.to_vec();
        reader.finish()?;
        self.control = control;
        Ok(())
    }
}

/// `K lr`, with steps of momentum for what they amount to; of no steps, as of one.
fn scale(work: &Work) -> f64 {
    work.amount().max(1.0) * work.lr
}

/// The control variate of a client after its update `sent_d`, from the one before.
pub(crate) fn next_control(own_d: &mut [f32], server_d: &[f32], sent_d: &[f32], work: &Work) {
    let scale = scale(work);
    for ((own, server), sent) in own_d.iter_mut().zip(server_d).zip(sent_d) {
        *own = narrow(f64::from(*own) - f64::from(*server) - f64::from(*sent) / scale);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Answer;
    use super::*;

    /// Two of four clients, 5 steps at 0.1 each: moved by -1 and 2, so that their variates become 2 and -4. The server's
    /// becomes (2 - 4) / 4 = -0.5. In the next round, one client moves by 0: its variate falls by -0.5, to 2 + 0.5, and the
    /// server's becomes -0.5 + 0.5 / 4.
    #[test]
    fn two_rounds_by_hand() {
        let mut scaffold = Scaffold::new(1.0);
        scaffold.prepare(1);
        let work = Work { steps: 5, lr: 0.1, momentum: 0.0 };
        let answer = |client, weight| Answer { client, weight, work };
        let sum = |weights: &[f64]| Ok(vec![narrow(-weights[0] + 2.0 * weights[1])]);
        let answers = [answer(0, 0.5), answer(1, 0.5)];
        let mut params = [1.0];
        scaffold.step(&Answers::new(&answers, 4).with_sum(&sum), &[0.5], &mut params).unwrap();
        assert_eq!((params, &scaffold.control[..]), ([1.5], &[-0.5][..]));
        let (mut first, mut second) = ([0.0], [0.0]);
        next_control(&mut first, &[0.0], &[-1.0], &work);
        next_control(&mut second, &[0.0], &[2.0], &work);
        assert_eq!((first, second), ([2.0], [-4.0]));

        let mut copy = Scaffold::new(1.0);
        copy.prepare(1);
        copy.restore(&scaffold.state()).unwrap();
        next_control(&mut first, &copy.control, &[0.0], &work);
        assert_eq!(first, [2.5]);
        let nothing = |_: &[f64]| Ok(vec![0.0]);
        copy.step(&Answers::new(&answers[..1], 4).with_sum(&nothing), &[0.0], &mut params).unwrap();
        assert_eq!(copy.control, [-0.375]);
    }

    #[test]
    fn without_the_updates_nothing_changes() {
        let mut scaffold = Scaffold::new(1.0);
        scaffold.prepare(1);
        let mut params = [1.0];
        assert!(scaffold.step(&Answers::new(&[], 4), &[0.5], &mut params).is_err());
        assert_eq!((params, &scaffold.control[..]), ([1.0], &[0.0][..]));
    }
}
