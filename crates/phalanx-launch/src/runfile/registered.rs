//! Kinds that a program adds to those of the library.

use phalanx_nn::models::ModelConfig;
use phalanx_nn::{AnyNet, NnError, ParamBuilder, Registry, Task};

/// Kinds that a program adds to those of the library, for its run files to name.
///
/// # Examples
/// ```
/// use phalanx_launch::runfile::{RawRun, Registered};
/// use phalanx_nn::models::Mlp;
///
/// let registered = Registered::default().with_model("perceptron", |config, task, params| {
///     Ok(Box::new(Mlp::from_config(config, task, params)?))
/// });
/// let text = "name = 'a'\n[model]\nkind = 'perceptron'\nhidden = [9]\n[data]\nkind = 'digits'\n\
///     [train]\nepochs = 1\n[optimizer]\nlr = 0.1\n";
/// RawRun::parse("a.toml", text)?.resolve(&registered)?;
/// # Ok::<(), phalanx_launch::runfile::RunFileError>(())
/// ```
#[derive(Debug, Default)]
pub struct Registered {
    /// With those of the library.
    models: Registry,
    own_models: Vec<String>,
}

impl Registered {
    /// Adds a model, which may stand as `model.kind`; the other keys of `[model]` are what `build` takes from its
    /// configuration. One of the library's names is not replaced.
    #[must_use]
    pub fn with_model(
        mut self,
        kind: &str,
        build: impl Fn(&mut ModelConfig, &Task, &mut ParamBuilder) -> Result<Box<dyn AnyNet>, NnError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        if self.models.kinds().all(|known| known != kind) {
            self.models.register(kind, build);
            self.own_models.push(kind.to_owned());
        }
        self
    }

    /// The names of [`with_model`](Self::with_model).
    pub(super) fn own_models(&self) -> &[String] {
        &self.own_models
    }

    /// All models that a run file can name.
    pub(crate) fn models(&self) -> &Registry {
        &self.models
    }
}
