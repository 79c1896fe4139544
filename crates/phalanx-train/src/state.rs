//! A run's state as it stands in a checkpoint, and back.

use crate::checkpoint::{Checkpoint, EpochCursor, Meta};
use crate::compression;
use crate::error::TrainError;
use crate::host::TrainBackend;
use crate::momentum;
use crate::rank_shards::gather_parts;
use crate::tensor_file::{NamedTensor, Values};
use crate::worker::Worker;
use phalanx_comm::{Communicator, Rank};
use phalanx_grad::{PolicyState, Ranks, Reduce, StateData, StateTensor};
use phalanx_nn::Params;

/// How far a run is: what every rank holds besides model and methods.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Place {
    pub(crate) step: u64,
    pub(crate) samples: u64,
    /// Place in the endless sequence of epochs.
    pub(crate) cursor: u64,
    pub(crate) batch: u64,
    pub(crate) updates: u64,
    pub(crate) skipped: u64,
    pub(crate) resumes: u64,
}

impl Place {
    pub(crate) fn counters(&self) -> [(&'static str, u64); 6] {
        [
            ("batch", self.batch),
            ("cursor", self.cursor),
            ("resumes", self.resumes),
            ("skipped", self.skipped),
            ("updates", self.updates),
            ("policy_version", 0),
        ]
    }

    pub(crate) fn of(meta: &Meta) -> Self {
        let counter = |name: &str| meta.counters.get(name).copied().unwrap_or_default();
        Place {
            step: meta.step,
            samples: meta.samples,
            cursor: counter("cursor"),
            batch: counter("batch"),
            updates: counter("updates"),
            skipped: counter("skipped"),
            resumes: counter("resumes"),
        }
    }

    pub(crate) fn epoch(&self, epoch_len: u64) -> EpochCursor {
        EpochCursor { epoch: self.cursor / epoch_len.max(1), samples: self.cursor % epoch_len.max(1) }
    }
}

/// The model's tensors by name, sorted so that equal models give equal files.
///
/// # Shapes
/// `flat`: as long as the flat buffer of `params`.
///
/// # Errors
/// [`TrainError::Artefact`] for a parameter whose name a file cannot hold.
pub fn model_tensors<'a>(params: &'a Params, flat: &'a [f32]) -> Result<Vec<NamedTensor<'a>>, TrainError> {
    let mut tensors = params
        .iter()
        .map(|(_, spec, span)| {
            NamedTensor::new(&spec.name, &spec.shape, &flat[span.offset..span.offset + span.len])
        })
        .collect::<Result<Vec<_>, _>>()?;
    tensors.sort_by(|a, b| a.name().cmp(b.name()));
    Ok(tensors)
}

/// The flat buffer from a model's tensors.
///
/// # Errors
/// [`TrainError::Resume`] when the tensors are of another model.
pub fn flat_from(params: &Params, tensors: &[NamedTensor<'_>]) -> Result<Vec<f64>, TrainError> {
    let mut flat = vec![0.0; params.flat_len()];
    let differs = |what: String, got: String, need: String| Err(TrainError::Resume { what, got, need });
    if tensors.len() != params.iter().count() {
        let (got, need) = (tensors.len().to_string(), params.iter().count().to_string());
        return differs("the number of tensors".to_owned(), got, need);
    }
    for (_, spec, span) in params.iter() {
        let found = tensors.iter().find(|t| t.name() == spec.name);
        let Some(tensor) = found else {
            return differs(format!("tensor {}", spec.name), "missing".to_owned(), spec.shape.to_string());
        };
        match tensor.as_f32() {
            Some(values) if *tensor.shape() == *spec.shape.dims() => {
                let to = &mut flat[span.offset..span.offset + span.len];
                to.iter_mut().zip(values).for_each(|(to, from)| *to = f64::from(*from));
            }
            _ => {
                let got = format!("{:?}", tensor.shape());
                return differs(format!("tensor {}", spec.name), got, spec.shape.to_string());
            }
        }
    }
    Ok(flat)
}

/// Named state as tensors of a checkpoint, sorted by name.
///
/// # Errors
/// [`TrainError::Resume`] for elements of a type that a file cannot hold.
pub fn state_tensors(state: &[StateTensor]) -> Result<Vec<NamedTensor<'_>>, TrainError> {
    let mut tensors = Vec::with_capacity(state.len());
    for tensor in state {
        let shape = [tensor.data.len()];
        tensors.push(match &tensor.data {
            StateData::F32(v) => NamedTensor::new(&tensor.name, &shape, v.as_slice())?,
            StateData::F64(v) => NamedTensor::new(&tensor.name, &shape, v.as_slice())?,
            StateData::U64(v) => NamedTensor::new(&tensor.name, &shape, v.as_slice())?,
            other => {
                let (got, need) = (other.type_name().to_owned(), "F32, F64 or U64".to_owned());
                return Err(TrainError::Resume { what: format!("state {}", tensor.name), got, need });
            }
        });
    }
    tensors.sort_by(|a, b| a.name().cmp(b.name()));
    Ok(tensors)
}

/// What goes before the names of the state of the rule over ranks, which stands beside the optimizer's.
const OF_RULE: &str = "over-ranks.";

/// The state of the rule over ranks, under names of its own, on rank 0; nothing on the others.
///
/// # Collective
/// Every rank, with a rule over vectors of `dim` numbers.
pub(crate) fn of_rule(
    rule: &dyn Reduce<Ranks>,
    dim: usize,
    comm: &dyn Communicator,
) -> Result<Vec<StateTensor>, TrainError> {
    let joined = gather_parts(comm, dim, rule.state_in_parts())?;
    if comm.rank() != Rank::ZERO {
        return Ok(Vec::new());
    }
    let named = |tensor: StateTensor| StateTensor { name: format!("{OF_RULE}{}", tensor.name), ..tensor };
    Ok(rule.state().into_iter().chain(joined).map(named).collect())
}

/// The named state that a checkpoint holds beside the model.
#[must_use]
pub fn state_of(held: &Checkpoint) -> Vec<StateTensor> {
    let data = |tensor: &NamedTensor<'_>| match tensor.values() {
        Values::F32(v) => StateData::F32(v.to_vec()),
        Values::F64(v) => StateData::F64(v.to_vec()),
        Values::U64(v) => StateData::U64(v.to_vec()),
    };
    let tensors = held.optimizer.iter();
    tensors.map(|tensor| StateTensor { name: tensor.name().to_owned(), data: data(tensor) }).collect()
}

/// Puts a checkpoint into a rank.
pub(crate) fn restore<B: TrainBackend>(
    worker: &mut Worker<'_, B>,
    held: &Checkpoint,
) -> Result<(), TrainError> {
    let flat = flat_from(worker.graph.params(), &held.model)?;
    worker.graph.set_params(&flat);
    let state = state_of(held);
    let (compression, optimizer): (Vec<_>, Vec<_>) = state.into_iter().partition(compression::owns);
    if let Some(compressor) = worker.buckets.compressor_mut() {
        let (rank, size) = (worker.comm.rank(), worker.comm.size().get());
        compression::restore(compressor, rank, size, &compression)?;
    }
    let (momentum, optimizer): (Vec<_>, Vec<_>) = optimizer.into_iter().partition(momentum::owns);
    if let Some(own) = &mut worker.momentum {
        own.restore(&momentum)?;
    }
    let backend = worker.graph.backend().clone();
    let (mut of_rule, of_optimizer): (Vec<_>, Vec<_>) =
        optimizer.into_iter().partition(|tensor| tensor.name.starts_with(OF_RULE));
    of_rule.iter_mut().for_each(|tensor| tensor.name.drain(..OF_RULE.len()).for_each(drop));
    worker.methods.over_time.restore(&backend, &of_optimizer)?;
    worker.methods.over_ranks.restore(&of_rule)?;
    let version = held.meta.counters.get("policy_version").copied().unwrap_or_default();
    let version = u32::try_from(version).unwrap_or(u32::MAX);
    worker.methods.policy.restore(&PolicyState { version, bytes: held.meta.policy.clone() })?;
    worker.updates = Place::of(&held.meta).updates;
    Ok(())
}
