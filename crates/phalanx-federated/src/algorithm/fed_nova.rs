//! `FedNova`: clients count alike however many steps they made.

use super::{Algorithm, Answers, Work, advance};
use phalanx_grad::GradError;

/// Each update is divided by what its steps amount to, `a_i`, and the mean is multiplied by the mean of these:
/// `w <- w + lr (sum p_i a_i) sum p_i x_i / a_i`.
///
/// `a_i` is [`Work::amount`]: of steps of plain SGD, their number. Without it, clients with more steps draw the model to optima of their own.
///
/// # Reference
/// Wang et al., "Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization", `NeurIPS` 2020.
///
/// # Deviation
/// Steps of local optimizers other than SGD count as steps of plain SGD.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FedNova {
    /// The server's learning rate.
    pub server_lr: f64,
}

impl Algorithm for FedNova {
    fn name(&self) -> &'static str {
        "fednova"
    }

    fn factor(&self, work: &Work) -> f64 {
        if work.steps == 0 { 1.0 } else { 1.0 / work.amount() }
    }

    fn step(&mut self, answers: &Answers<'_>, mean_d: &[f32], params_d: &mut [f32]) -> Result<(), GradError> {
        let total: f64 = answers.each().iter().map(|answer| answer.weight).sum();
        let amounts = answers.each().iter().map(|answer| answer.weight * answer.work.amount());
        let mean_amount = if total > 0.0 { amounts.sum::<f64>() / total } else { 0.0 };
        advance(self.server_lr * mean_amount, mean_d, params_d)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Answer;
    use super::*;

    /// Two clients of equal weight: 2 steps to -2, and 4 steps to 8. A step of the first is -1, of the second 2: their mean
    /// 0.5, times the mean of 3 steps. The plain mean would be 3.
    #[test]
    fn two_clients_by_hand() {
        let mut nova = FedNova { server_lr: 1.0 };
        let answer =
            |client, steps| Answer { client, weight: 0.5, work: Work { steps, lr: 0.1, momentum: 0.0 } };
        let answers = [answer(0, 2), answer(1, 4)];
        let mean = (-2.0 * nova.factor(&answers[0].work) + 8.0 * nova.factor(&answers[1].work)) / 2.0;
        let mut params = [10.0];
        nova.step(&Answers::new(&answers, 2), &[super::super::narrow(mean)], &mut params).unwrap();
        assert_eq!(params, [11.5]);
    }
}
