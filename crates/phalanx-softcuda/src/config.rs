//! What a test chooses of the machine that it pretends to have.

use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// What the names of all variables begin with.
const PREFIX: &str = "PHALANX_SOFTCUDA_";

/// When the work of a stream is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// When it is enqueued, before the call returns.
    Eager,
    /// When the host waits for it, and then from streams picked at random among those that need not wait, with the warps of a
    /// block and the blocks of a grid in an order drawn as well. Where an event or a barrier is missing, some seeds show it.
    Lazy {
        /// What the order is drawn from.
        seed: u64,
    },
}

/// One property of the machine, chosen before its first use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Setting {
    /// How many devices there are, 2 unless set.
    Devices(u32),
    /// The memory of each device, 4 GiB unless set.
    MemoryBytes(u64),
    /// The compute capability, 8.0 unless set.
    Capability {
        /// The number before the point.
        major: u32,
        /// The number after it.
        minor: u32,
    },
    /// The version of the driver as `cuDriverGetVersion` gives it, 12090 unless set. It decides which PTX is too new.
    DriverVersion(u32),
    /// When work is done, [`Schedule::Eager`] unless set.
    Schedule(Schedule),
    /// How many threads run the blocks of kernels without atomics on global memory, 1 unless set.
    Threads(u32),
    /// How many instructions a warp runs in a launch before it counts as endless, 2^40 unless set.
    Steps(u64),
    /// Whether devices read the host's pageable memory themselves, and so when a copy is done and not when it is enqueued. Not
    /// unless set.
    PageableAccess(bool),
    /// A device that fails at one of its launches, and that launch, from 1. None unless set.
    Lose {
        /// The number of the device.
        device: u32,
        /// The launch.
        launch: u64,
    },
    /// A file that gets the text of each fault.
    Report(PathBuf),
}

impl Setting {
    /// The environment variable and its value by which a process starts with this setting.
    pub fn variable(&self) -> (String, String) {
        let (name, value) = match self {
            Setting::Devices(n) => ("DEVICES", n.to_string()),
            Setting::MemoryBytes(n) => ("MEMORY", n.to_string()),
            Setting::Capability { major, minor } => ("CAPABILITY", format!("{major}.{minor}")),
            Setting::DriverVersion(n) => ("DRIVER", n.to_string()),
            Setting::Schedule(Schedule::Eager) => ("SCHEDULE", "eager".to_owned()),
            Setting::Schedule(Schedule::Lazy { seed }) => ("SCHEDULE", format!("lazy:{seed}")),
            Setting::Threads(n) => ("THREADS", n.to_string()),
            Setting::Steps(n) => ("STEPS", n.to_string()),
            Setting::PageableAccess(does) => ("PAGEABLE", u8::from(*does).to_string()),
            Setting::Lose { device, launch } => ("LOSE", format!("{device}:{launch}")),
            Setting::Report(path) => ("REPORT", path.to_string_lossy().into_owned()),
        };
        (format!("{PREFIX}{name}"), value)
    }

    /// Reads what [`Self::variable`] writes.
    fn parse(variable: &str, value: &str) -> Option<Self> {
        Some(match variable.strip_prefix(PREFIX)? {
            "DEVICES" => Setting::Devices(value.parse().ok()?),
            "MEMORY" => Setting::MemoryBytes(value.parse().ok()?),
            "CAPABILITY" => {
                let (major, minor) = value.split_once('.')?;
                Setting::Capability { major: major.parse().ok()?, minor: minor.parse().ok()? }
            }
            "DRIVER" => Setting::DriverVersion(value.parse().ok()?),
            "SCHEDULE" if value == "eager" => Setting::Schedule(Schedule::Eager),
            "SCHEDULE" => {
                Setting::Schedule(Schedule::Lazy { seed: value.strip_prefix("lazy:")?.parse().ok()? })
            }
            "THREADS" => Setting::Threads(value.parse().ok()?),
            "STEPS" => Setting::Steps(value.parse().ok()?),
            "PAGEABLE" => Setting::PageableAccess(value == "1"),
            "LOSE" => {
                let (device, launch) = value.split_once(':')?;
                Setting::Lose { device: device.parse().ok()?, launch: launch.parse().ok()? }
            }
            "REPORT" => Setting::Report(value.into()),
            _ => return None,
        })
    }
}

/// All settings together.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) devices: u32,
    pub(crate) memory: u64,
    pub(crate) capability: (u32, u32),
    pub(crate) driver: u32,
    pub(crate) schedule: Schedule,
    pub(crate) threads: u32,
    pub(crate) steps: u64,
    pub(crate) pageable: bool,
    /// A device, and the launch that it fails at.
    pub(crate) lose: Option<(u32, u64)>,
    pub(crate) report: Option<PathBuf>,
}

impl Config {
    fn set(&mut self, setting: Setting) {
        match setting {
            Setting::Devices(n) => self.devices = n,
            Setting::MemoryBytes(n) => self.memory = n,
            Setting::Capability { major, minor } => self.capability = (major, minor),
            Setting::DriverVersion(n) => self.driver = n,
            Setting::Schedule(schedule) => self.schedule = schedule,
            Setting::Threads(n) => self.threads = n.max(1),
            Setting::Steps(n) => self.steps = n,
            Setting::PageableAccess(does) => self.pageable = does,
            Setting::Lose { device, launch } => self.lose = Some((device, launch)),
            Setting::Report(path) => self.report = Some(path),
        }
    }

    fn from_environment() -> Self {
        let mut config = Self {
            devices: 2,
            memory: 4 << 30,
            capability: (8, 0),
            driver: 12_090,
            schedule: Schedule::Eager,
            threads: 1,
            steps: 1 << 40,
            pageable: false,
            lose: None,
            report: None,
        };
        for (name, value) in std::env::vars_os() {
            if let (Some(name), Some(value)) = (name.to_str(), value.to_str())
                && let Some(setting) = Setting::parse(name, value)
            {
                config.set(setting);
            }
        }
        config
    }
}

static CONFIG: LazyLock<Mutex<Config>> = LazyLock::new(|| Mutex::new(Config::from_environment()));

fn lock() -> MutexGuard<'static, Config> {
    CONFIG.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The settings as they are now.
pub(crate) fn get() -> Config {
    lock().clone()
}

/// Applies a variable of [`Setting::variable`]; false where it is none.
pub(crate) fn apply(variable: &str, value: &str) -> bool {
    let setting = Setting::parse(variable, value);
    setting.map(|setting| lock().set(setting)).is_some()
}

#[cfg(test)]
mod tests {
    use super::{Schedule, Setting};

    #[test]
    fn variables_are_read_as_they_are_written() {
        let settings = [
            Setting::Devices(3),
            Setting::MemoryBytes(1 << 20),
            Setting::Capability { major: 9, minor: 0 },
            Setting::DriverVersion(12_040),
            Setting::Schedule(Schedule::Eager),
            Setting::Schedule(Schedule::Lazy { seed: 17 }),
            Setting::Threads(2),
            Setting::Steps(100),
            Setting::PageableAccess(true),
            Setting::Lose { device: 1, launch: 400 },
            Setting::Report("faults.txt".into()),
        ];
        for setting in settings {
            let (name, value) = setting.variable();
            assert_eq!(Setting::parse(&name, &value), Some(setting));
        }
        assert_eq!(Setting::parse("PHALANX_SOFTCUDA_DEVICES", "many"), None);
        assert_eq!(Setting::parse("DEVICES", "1"), None);
    }
}
