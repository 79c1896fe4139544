//! The largest eigenvalues of the Hessian at a checkpoint, and the learning rates that they ask for.

use std::sync::Arc;

use phalanx_data::Sampler;
use phalanx_nn::Net;
use phalanx_optim::{Spectrum, lanczos};
use phalanx_tensor::Cpu;
use phalanx_train::LossSurface;
use phalanx_train::rundir::RunPaths;

use super::{Hardware, Which, device, job, load};
use crate::runfile::{Registered, Run};

/// How much is looked at.
#[derive(Debug, Clone, Copy)]
pub struct CurvatureOptions {
    /// The state of the run.
    pub which: Which,
    /// Samples of the training set over which the loss is taken.
    pub samples: usize,
    /// Steps of Lanczos, each a product with the Hessian.
    pub steps: usize,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Curvature {
    /// Step of the checkpoint.
    pub step: u64,
    /// Samples over which the loss was taken.
    pub samples: usize,
    /// Approximate eigenvalues.
    pub spectrum: Spectrum,
}

/// Runs Lanczos on the Hessian of the mean training loss at a state of a run.
///
/// # Errors
/// When the checkpoint or the data cannot be read.
pub fn curvature(
    run: &Run,
    paths: &RunPaths,
    options: CurvatureOptions,
    registered: &Registered,
    hardware: Hardware,
) -> anyhow::Result<Curvature> {
    device::refuse(hardware, "inspect")?;
    let parts = job::parts(run, registered, hardware, None)?;
    let held = load(paths, options.which)?;
    let data = Arc::clone(&parts.data.train);
    let mut sampler = Sampler::new(data.len(), run.seed)?;
    let indices = sampler.batch(0, options.samples.clamp(1, data.len())).indices.to_vec();
    let samples = indices.len();
    let net: Arc<dyn Net<Cpu<f32>>> = parts.net;
    let mut surface =
        LossSurface::new(Cpu::<f32>::new(), &parts.plan, &*net, parts.task, &held, &*data, indices)?;
    let dim = surface.dim();
    let spectrum = lanczos(dim, options.steps, run.seed, |v, out| surface.hessian_product(v, out))?;
    Ok(Curvature { step: held.meta.step, samples, spectrum })
}
