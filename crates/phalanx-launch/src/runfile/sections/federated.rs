//! `[federated]`: the rounds.

use crate::runfile::Range;
use crate::runfile::key::{keys, kinds, names};

keys! {
    /// The rounds.
    pub struct Federated {
        /// Clients there are.
        clients: usize, "clients", Range::Within(1.0, 1e7), Fixed;
        /// Clients whose updates a round takes.
        per_round: usize, "clients", Range::AtLeast(1.0), Fixed;
        /// Rounds of the run.
        rounds: u64, "rounds", Range::AtLeast(1.0), May;
        /// "uniform", "poisson": each with the same chance, so that their number varies, or "weighted": with chances by
        /// samples.
        sampling: Sampling = Sampling::Uniform, "", Range::Any, Fixed;
        /// Share of `per_round` that is asked besides; the first to answer count.
        over_select: f64 = 0.0, "", Range::AtLeast(0.0), Fixed;
        /// Chance that a client that was asked does not answer.
        dropout: f64 = 0.0, "", Range::Below(0.0, 1.0), Fixed;
        /// How much clients differ in speed: the standard deviation of the logarithm of the time for a sample.
        spread: f64 = 0.0, "", Range::AtLeast(0.0), Fixed;
        /// The server's learning rate.
        server_lr: f64 = 1.0, "", Range::Above(0.0), Fixed;
        /// What a round does whose updates give no result, as when fewer clients answer than the rule needs: "skip" leaves
        /// the model as it is, "stop" ends the run.
        on_unusable: OnUnusable = OnUnusable::Skip, "", Range::Any, Fixed;
        /// Rounds between two looks at the validation set and the backdoor; 0: with checkpoints only.
        eval_every_rounds: u64 = 10, "rounds", Range::AtLeast(0.0), Fixed;
        /// Ranks that play the clients, as threads; under a launcher the launcher decides. The result does not depend on it.
        ranks: usize = 1, "ranks", Range::Within(1.0, 65_536.0), May;
        /// Samples that a rank runs through the network at once; 0: chosen by the program.
        tile: usize = 0, "samples", Range::AtLeast(0.0), Fixed;
        /// How long a rank waits for the others before the job ends.
        timeout_seconds: f64 = 600.0, "seconds", Range::UpTo(0.0, 1e6), May;
        /// How long a rank that is a process may give no sign of life, or no progress while others wait,
        /// before all ranks end.
        lost_after_seconds: f64 = 60.0, "seconds", Range::UpTo(0.0, 86_400.0), May;
        ..
        /// The server's algorithm.
        algorithm: FedAlgorithm
    }
}

kinds! {
    /// What the server does with the one update that the rule makes of the clients', and what it asks of their training.
    pub enum FedAlgorithm by algorithm = "fedavg" {
        /// The model moves along it.
        "fedavg" => FedAvg {}
        /// The same, and clients are held near the server's model.
        "fedprox" => FedProx {
            /// Factor of the distance that is added to each local gradient.
            mu: f64 = 0.01, "", Range::AtLeast(0.0), Fixed;
        }
        /// The model moves with momentum.
        "fedavgm" => FedAvgM {
            /// Share of the old velocity in the new one.
            server_momentum: f64 = 0.9, "", Range::Below(0.0, 1.0), Fixed;
        }
        /// Moments of the updates, both forgetting.
        "fedadam" => FedAdam {
            /// Share of the old first moment in the new one.
            beta1: f64 = 0.9, "", Range::Below(0.0, 1.0), Fixed;
            /// Share of the old second moment in the new one.
            beta2: f64 = 0.99, "", Range::Below(0.0, 1.0), Fixed;
            /// Added to the root of the second moment, which begins at its square.
            tau: f64 = 1e-3, "", Range::Above(0.0), Fixed;
        }
        /// Moments of the updates, the second one by signs.
        "fedyogi" => FedYogi {
            /// Share of the old first moment in the new one.
            beta1: f64 = 0.9, "", Range::Below(0.0, 1.0), Fixed;
            /// One less the share of the squared update by which the second moment moves.
            beta2: f64 = 0.99, "", Range::Below(0.0, 1.0), Fixed;
            /// Added to the root of the second moment, which begins at its square.
            tau: f64 = 1e-3, "", Range::Above(0.0), Fixed;
        }
        /// The sum of squared updates.
        "fedadagrad" => FedAdagrad {
            /// Share of the old first moment in the new one.
            beta1: f64 = 0.0, "", Range::Below(0.0, 1.0), Fixed;
            /// Added to the root of the sum, which begins at its square.
            tau: f64 = 1e-3, "", Range::Above(0.0), Fixed;
        }
        /// Control variates of server and clients take the drift out of local steps.
        "scaffold" => Scaffold {}
        /// Clients count alike however many steps they made.
        "fednova" => FedNova {}
    }
}

names! {
    /// How clients are sampled.
    pub enum Sampling {
        /// So many, each set as likely as any other.
        "uniform" => Uniform,
        /// Each by itself with the same chance.
        "poisson" => Poisson,
        /// So many, with chances by samples.
        "weighted" => Weighted,
    }
}

names! {
    /// What a round without a result does.
    pub enum OnUnusable {
        /// The model stays as it is.
        "skip" => Skip,
        /// The run ends.
        "stop" => Stop,
    }
}
