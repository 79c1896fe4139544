//! `[partition]`: which samples belong to which client.

use crate::runfile::Range;
use crate::runfile::key::{keys, kinds};

keys! {
    /// The division of the training samples.
    pub struct Partition {
        ..
        /// How the samples are divided.
        kind: PartitionKind
    }
}

kinds! {
    /// How the samples are divided.
    pub enum PartitionKind by kind = "iid" {
        /// Shuffled and dealt out evenly.
        "iid" => Iid {}
        /// The shares of each class over the clients are drawn from a Dirichlet distribution.
        "dirichlet" => Dirichlet {
            /// Concentration: 0.1 leaves a client few classes, 0.5 is usual, large values deal evenly.
            alpha: f64 = 0.5, "", Range::Above(0.0), Fixed;
            /// The least samples of a client: the division is drawn until all have them.
            least: usize = 10, "samples", Range::AtLeast(0.0), Fixed;
        }
        /// A share of the samples is dealt out evenly at random, the rest in the order of labels.
        "gamma-similarity" => GammaSimilarity {
            /// The share that is dealt out at random.
            gamma: f64 = 0.5, "", Range::Within(0.0, 1.0), Fixed;
        }
        /// Pieces of the samples sorted by label.
        "pathological" => Pathological {
            /// Pieces of a client, and about its number of labels.
            labels_each: usize = 2, "", Range::AtLeast(1.0), Fixed;
        }
    }
}
