//! Where tensors live, as the command line says it, and which device each rank gets.

use std::fmt;
use std::str::FromStr;

use super::Hardware;
use crate::runfile::{Precision, Train};
use crate::world::World;

#[cfg(feature = "cuda")]
pub(super) use super::gpus::Gpus;

/// The device of the tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// The CPU.
    Cpu,
    /// NVIDIA GPUs, one a rank.
    Cuda,
    /// One NVIDIA GPU, by its number from 0.
    CudaAt(usize),
}

/// A word that is no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no device: cpu, cuda, or cuda:N for one of several")]
pub struct UnknownDevice(String);

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(word: &str) -> Result<Self, UnknownDevice> {
        let unknown = || UnknownDevice(word.to_owned());
        match word.split_once(':') {
            None if word == "cpu" => Ok(Device::Cpu),
            None if word == "cuda" => Ok(Device::Cuda),
            Some(("cuda", number)) => number.parse().map(Device::CudaAt).map_err(|_| unknown()),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda => f.write_str("cuda"),
            Device::CudaAt(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// Why ranks cannot have the devices that were asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// A device that this program cannot drive.
    #[error("--device {0}, but this phalanx is built without the feature `cuda`")]
    NotBuilt(Device),
    /// A command that computes on the CPU alone.
    #[error("--device {device}, but `{command}` computes on the CPU")]
    CpuOnly {
        /// The command.
        command: &'static str,
        /// What was asked for.
        device: Device,
    },
    /// Rounding that only GPUs do.
    #[error(
        "train.precision = \"tf32\" rounds for the matrix units of a GPU: need \"f32\" on the CPU, or --device cuda"
    )]
    Rounds,
    /// More ranks than devices.
    #[error(
        "{ranks} ranks on this host and {devices} of --device {device}: start fewer ranks, or let them share with \
         --share-devices"
    )]
    TooFew {
        /// Ranks that see the same devices.
        ranks: usize,
        /// Devices that they may use.
        devices: usize,
        /// What was asked for.
        device: Device,
    },
}

/// Where the gradients of ranks meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sums {
    /// Where they are added up and no more: on the devices, if these can.
    OnDevices,
    /// In the memory of the host.
    OnHost,
}

/// The devices of the ranks that are in this process.
pub(super) enum Devices {
    /// Every rank computes on the CPU.
    Cpu,
    /// Each has a GPU.
    #[cfg(feature = "cuda")]
    Cuda(Gpus),
}

impl Devices {
    /// Opens what `hardware` asks for, for the ranks of a run, which meet there if `sums` says so.
    ///
    /// # Collective
    /// Every process of `world`.
    pub(super) fn open(hardware: Hardware, train: &Train, sums: Sums, world: &World) -> anyhow::Result<Self> {
        match hardware.device {
            Device::Cpu => match train.precision {
                Precision::F32 => Ok(Devices::Cpu),
                Precision::Tf32 => Err(DeviceError::Rounds.into()),
            },
            #[cfg(feature = "cuda")]
            _ => Ok(Devices::Cuda(Gpus::open(hardware, train, sums, world)?)),
            #[cfg(not(feature = "cuda"))]
            device => {
                let (_, _) = (sums, world);
                Err(DeviceError::NotBuilt(device).into())
            }
        }
    }
}

/// What a rank may fill of its device, as far as this process knows; none on the CPU, where the host's memory is used.
pub(super) fn memory(hardware: Hardware, ranks: usize) -> anyhow::Result<Option<u64>> {
    match hardware.device {
        Device::Cpu => Ok(None),
        #[cfg(feature = "cuda")]
        _ => super::gpus::memory(hardware, ranks),
        #[cfg(not(feature = "cuda"))]
        device => {
            let _ = ranks;
            Err(DeviceError::NotBuilt(device).into())
        }
    }
}

/// The least of what the processes of `world` know of their devices.
///
/// # Collective
/// Every process of `world`.
pub(super) fn least_memory(hardware: Hardware, ranks: usize, world: &World) -> anyhow::Result<Option<u64>> {
    let own = memory(hardware, ranks)?;
    #[cfg(feature = "cuda")]
    if hardware.device != Device::Cpu {
        // a process that sees no device speaks too
        let said = world.tell(own.unwrap_or(u64::MAX).to_le_bytes().to_vec(), ranks)?;
        let number = |said: &Vec<u8>| said.as_chunks().0.first().map(|bytes| u64::from_le_bytes(*bytes));
        return Ok(said.iter().filter_map(number).min().filter(|least| *least < u64::MAX));
    }
    let _ = world;
    Ok(own)
}

/// Refuses a device where `command` computes on the CPU alone.
pub(super) fn refuse(hardware: Hardware, command: &'static str) -> Result<(), DeviceError> {
    match hardware.device {
        Device::Cpu => Ok(()),
        device => Err(DeviceError::CpuOnly { command, device }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for device in [Device::Cpu, Device::Cuda, Device::CudaAt(0), Device::CudaAt(12)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        for word in ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", ""] {
            let error = word.parse::<Device>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{word}` is no device: ")), "{error}");
        }
    }
}
