//! The GPUs of the ranks of this process, and how their gradients meet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use phalanx_comm::{Communicator, Rank};
use phalanx_cuda::{Cuda, CudaError, Products};
use phalanx_train::TrainError;

use super::Hardware;
use super::device::{Device, DeviceError, Sums};
use super::job::bad_input;
use crate::runfile::{Precision, Train};
use crate::world::World;

#[cfg(feature = "nccl")]
use phalanx_comm_nccl::{NcclExchange, NcclLibrary, NcclOptions};

/// What tells a device from all others, of this and other hosts.
type Uuid = [u8; 16];

/// A device for each rank of this process, open.
pub(super) struct Gpus {
    /// The device of rank `first + i`.
    devices: Vec<Cuda>,
    first: Rank,
    /// Whether gradients meet on the devices.
    #[cfg_attr(not(feature = "nccl"), expect(dead_code, reason = "without NCCL all goes through the host"))]
    exchanges: bool,
}

impl Gpus {
    /// Opens the devices of the ranks that are in this process: each has the first of those it sees that no rank before it
    /// has, whether they all see the same or one each.
    ///
    /// # Collective
    /// Every process of `world`.
    pub(super) fn open(hardware: Hardware, train: &Train, sums: Sums, world: &World) -> anyhow::Result<Self> {
        let ranks = train.ranks;
        let (uuids, usable) = (Cuda::uuids().map_err(bad_input)?, usable(hardware.device)?);
        let seen = world.tell(usable.iter().flat_map(|ordinal| uuids[*ordinal]).collect(), ranks)?;
        let seen: Vec<Vec<Uuid>> = seen.iter().map(|said| said.as_chunks().0.to_vec()).collect();
        let taken = take(&seen);
        for (rank, own) in seen.iter().enumerate() {
            if taken[rank].is_none_or(|taken| taken.before > 0 && !hardware.shares_devices) {
                let sees = |other: &&Vec<Uuid>| other.iter().any(|uuid| own.contains(uuid));
                let ranks = seen.iter().filter(sees).count().max(1);
                return Err(DeviceError::TooFew { ranks, devices: own.len(), device: hardware.device }.into());
            }
        }
        let mut opened: Vec<Cuda> = Vec::new();
        for taken in taken[world.here(ranks)].iter().flatten() {
            opened.push(Cuda::open_for(usable[taken.place], products(train.precision)).map_err(bad_input)?);
        }
        let is_shared = taken.iter().flatten().any(|taken| taken.before > 0);
        let exchanges = ranks > 1 && !is_shared && sums == Sums::OnDevices;
        #[cfg(feature = "nccl")]
        if exchanges {
            let library = NcclLibrary::get().map_err(bad_input)?;
            tracing::info!("gradients are added up by NCCL {}", library.version());
        }
        Ok(Gpus { devices: opened, first: world.first(), exchanges })
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
        if !self.exchanges {
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

fn products(precision: Precision) -> Products {
    match precision {
        Precision::F32 => Products::F32,
        Precision::Tf32 => Products::Tf32,
    }
}

/// The devices of this process that ranks may use.
fn usable(device: Device) -> anyhow::Result<Vec<usize>> {
    let devices = Cuda::devices().map_err(bad_input)?;
    match device {
        Device::CudaAt(ordinal) if ordinal >= devices => {
            Err(bad_input(CudaError::NoDevice { ordinal, devices }).into())
        }
        Device::CudaAt(ordinal) => Ok(vec![ordinal]),
        _ => Ok((0..devices).collect()),
    }
}

/// The first of the devices that a command without ranks may use.
pub(super) fn first(device: Device) -> anyhow::Result<Cuda> {
    let Some(ordinal) = usable(device)?.first().copied() else {
        return Err(DeviceError::TooFew { ranks: 1, devices: 0, device }.into());
    };
    Ok(Cuda::open(ordinal).map_err(bad_input)?)
}

/// What a rank may fill of a device: three quarters of the least, the rest being for work space, cuBLAS and NCCL; where ranks
/// share devices, an even part of it. None without a device.
pub(super) fn memory(hardware: Hardware, ranks: usize) -> anyhow::Result<Option<u64>> {
    let usable = usable(hardware.device)?;
    let sizes = usable.iter().map(|ordinal| Cuda::memory(*ordinal)).collect::<Result<Vec<u64>, _>>();
    let least = sizes.map_err(bad_input)?.into_iter().min();
    let sharing = if hardware.shares_devices { ranks.div_ceil(usable.len().max(1)) as u64 } else { 1 };
    Ok(least.map(|bytes| bytes / 4 * 3 / sharing))
}

/// The device that a rank takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Taken {
    /// Its place among those that the rank sees.
    place: usize,
    /// How many ranks have it already.
    before: usize,
}

/// What each rank takes of the devices that it sees, the lowest rank first: the first of those that the fewest have. None
/// where it sees none.
fn take(seen: &[Vec<Uuid>]) -> Vec<Option<Taken>> {
    let mut had: BTreeMap<Uuid, usize> = BTreeMap::new();
    let mut one = |own: &Vec<Uuid>| {
        let by = |uuid: &Uuid| had.get(uuid).copied().unwrap_or(0);
        let (place, uuid) = own.iter().enumerate().min_by_key(|(_, uuid)| by(uuid))?;
        let before = by(uuid);
        had.insert(*uuid, before + 1);
        Some(Taken { place, before })
    };
    seen.iter().map(&mut one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The place and the earlier takers of what each rank takes, of devices named by letters.
    fn taken(seen: &[&str]) -> Vec<Option<(usize, usize)>> {
        let seen: Vec<Vec<Uuid>> =
            seen.iter().map(|own| own.bytes().map(|name| [name; 16]).collect()).collect();
        take(&seen).into_iter().map(|taken| taken.map(|taken| (taken.place, taken.before))).collect()
    }

    #[test]
    fn ranks_that_see_the_same_devices_have_one_each() {
        assert_eq!(taken(&["abc"; 3]), [Some((0, 0)), Some((1, 0)), Some((2, 0))]);
    }

    #[test]
    fn ranks_that_see_one_device_each_have_that_one() {
        assert_eq!(taken(&["a", "b", "c"]), [Some((0, 0)); 3]);
    }

    /// Two hosts of two devices, whatever their names are.
    #[test]
    fn hosts_are_told_apart_by_their_devices() {
        let on_each = [Some((0, 0)), Some((1, 0)), Some((0, 0)), Some((1, 0))];
        assert_eq!(taken(&["ab", "ab", "cd", "cd"]), on_each);
        assert_eq!(
            taken(&["ab", "cd", "ab", "cd"]),
            [Some((0, 0)), Some((0, 0)), Some((1, 0)), Some((1, 0))]
        );
    }

    #[test]
    fn more_ranks_than_devices_share_them_evenly() {
        assert_eq!(taken(&["ab"; 4]), [Some((0, 0)), Some((1, 0)), Some((0, 1)), Some((1, 1))]);
        assert_eq!(taken(&[""]), [None]);
    }
}
