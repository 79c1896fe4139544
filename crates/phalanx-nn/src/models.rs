//! The models of the library, sized by configuration.

mod cnn;
mod config;
mod gpt;
mod lenet5;
mod mlp;

pub use cnn::Cnn;
pub use config::{ConfigValue, ModelConfig};
pub use gpt::Gpt;
pub use lenet5::LeNet5;
pub use mlp::Mlp;

use crate::NnError;
use crate::net::Task;

/// Channels, height and width of image features; flat features are refused.
fn image(model: &'static str, task: &Task) -> Result<([usize; 3], usize), NnError> {
    match task {
        Task::Classify { features, classes } if features.rank() == 3 => {
            Ok(([features[0], features[1], features[2]], *classes))
        }
        Task::Classify { features, .. } => Err(NnError::Size {
            model,
            field: "features",
            got: features.rank(),
            need: "images, [channels, height, width]",
        }),
        Task::Predict { .. } => Err(tokens(model)),
    }
}

fn tokens(model: &'static str) -> NnError {
    NnError::Config { model: model.to_owned(), detail: "classifies features, the data are tokens".to_owned() }
}
