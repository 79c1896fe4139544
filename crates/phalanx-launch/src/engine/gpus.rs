//! The GPUs of the ranks of this process, and how their gradients meet.

use std::sync::Arc;
use std::time::Duration;

use phalanx_comm::{Communicator, Rank};
use phalanx_cuda::{Cuda, CudaError};
use phalanx_train::TrainError;

use super::Hardware;
use super::device::{Device, DeviceError};
use super::job::bad_input;
use crate::world::World;

#[cfg(feature = "nccl")]
use phalanx_comm_nccl::{NcclExchange, NcclLibrary, NcclOptions};

/// A device for each rank of this process, open.
pub(super) struct Gpus {
    /// The device of rank `first + i`.
    devices: Vec<Cuda>,
    first: Rank,
    /// Whether two ranks of the job may have one device, which NCCL does not do.
    #[cfg_attr(not(feature = "nccl"), expect(dead_code, reason = "without NCCL all goes through the host"))]
    shared: bool,
}

impl Gpus {
    /// Opens the devices of the ranks that are in this process: the k-th rank of a host has the k-th device.
    ///
    /// # Collective
    /// Every process of `world`.
    pub(super) fn open(hardware: Hardware, ranks: usize, world: &World) -> anyhow::Result<Self> {
        let devices = Cuda::devices().map_err(bad_input)?;
        let usable: Vec<usize> = match hardware.device {
            Device::CudaAt(ordinal) if ordinal >= devices => {
                return Err(bad_input(CudaError::NoDevice { ordinal, devices }).into());
            }
            Device::CudaAt(ordinal) => vec![ordinal],
            _ => (0..devices).collect(),
        };
        let local = world.on_this_host(ranks)?;
        if usable.is_empty() || (local.end > usable.len() && !hardware.shares_devices) {
            let (ranks, devices, device) = (local.end, usable.len(), hardware.device);
            return Err(DeviceError::TooFew { ranks, devices, device }.into());
        }
        let mut devices: Vec<Cuda> = Vec::with_capacity(local.len());
        for rank in local {
            let number = usable[rank % usable.len()];
            devices.push(Cuda::open(number).map_err(bad_input)?);
        }
        #[cfg(feature = "nccl")]
        if ranks > 1 && !hardware.shares_devices {
            let library = NcclLibrary::get().map_err(bad_input)?;
            tracing::info!("gradients are added up by NCCL {}", library.version());
        }
        Ok(Gpus { devices, first: world.first(), shared: hardware.shares_devices })
    }

    /// Any of them.
    pub(super) fn any(&self) -> Cuda {
        self.devices[0].clone()
    }

    /// What a rank computes on.
    ///
    /// # Collective
    /// Every rank.
    pub(super) fn of(
        &self,
        comm: &Arc<dyn Communicator>,
        timeout: Duration,
    ) -> Result<phalanx_train::Device<Cuda>, TrainError> {
        let backend = self.devices[comm.rank().index() - self.first.index()].clone();
        let device = phalanx_train::Device::new(backend.clone());
        self.exchanging(device, &backend, comm, timeout)
    }

    #[cfg(feature = "nccl")]
    fn exchanging(
        &self,
        device: phalanx_train::Device<Cuda>,
        backend: &Cuda,
        comm: &Arc<dyn Communicator>,
        timeout: Duration,
    ) -> Result<phalanx_train::Device<Cuda>, TrainError> {
        if self.shared || comm.size().get() == 1 {
            return Ok(device);
        }
        let options = NcclOptions { timeout, ..NcclOptions::default() };
        let exchange = NcclExchange::new(comm, backend, &options).map_err(|error| error.on(comm.rank()))?;
        Ok(device.with_exchange(Box::new(exchange)))
    }

    #[cfg(not(feature = "nccl"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "sums go through the host")]
    fn exchanging(
        &self,
        device: phalanx_train::Device<Cuda>,
        _backend: &Cuda,
        _comm: &Arc<dyn Communicator>,
        _timeout: Duration,
    ) -> Result<phalanx_train::Device<Cuda>, TrainError> {
        Ok(device)
    }
}
