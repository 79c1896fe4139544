//! What can go wrong with a GPU.

use phalanx_tensor::TensorError;

/// Why a device cannot be opened, or what became of it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// A library of CUDA is not on this machine.
    #[error("the library {library} is not here: {purpose}")]
    NoLibrary {
        /// Its name.
        library: &'static str,
        /// Where it comes from.
        purpose: &'static str,
    },
    /// A library is too old for what is called.
    #[error("the library {library} has no function {function}: it is too old")]
    NoFunction {
        /// The library.
        library: &'static str,
        /// What it lacks.
        function: &'static str,
    },
    /// There is no device of this number.
    #[error("cuda:{ordinal} with {devices} devices: they are numbered from 0")]
    NoDevice {
        /// What was asked for.
        ordinal: usize,
        /// How many there are.
        devices: usize,
    },
    /// The device is older than the oldest that kernels are compiled for.
    #[error("cuda:{ordinal} has compute capability {}.{}: 8.0 is the least", capability.0, capability.1)]
    Capability {
        /// The device.
        ordinal: usize,
        /// Its compute capability.
        capability: (u32, u32),
    },
    /// The driver has no machine code for the device in this program, and cannot compile its PTX.
    #[error(
        "the driver supports CUDA {}.{}, the kernels for cuda:{ordinal} need {}.{}: a newer driver is needed",
        driver.0, driver.1, needs.0, needs.1
    )]
    OldDriver {
        /// The device.
        ordinal: usize,
        /// What the driver supports.
        driver: (u32, u32),
        /// What the kernels need.
        needs: (u32, u32),
    },
    /// The device has too little memory left.
    #[error("cannot allocate {asked} bytes on cuda:{ordinal}: {held} are held, {free} are free")]
    OutOfMemory {
        /// The device.
        ordinal: usize,
        /// What was asked for, in bytes.
        asked: usize,
        /// What this backend holds, in use or kept for later.
        held: usize,
        /// What the device had left.
        free: usize,
    },
    /// A call of the driver or of cuBLAS failed, or a kernel that ran before it.
    #[error("cuda:{ordinal}: {call} failed with {code}: {text}")]
    Call {
        /// The device.
        ordinal: usize,
        /// The function, or the kernel that was to be launched.
        call: &'static str,
        /// What it returned.
        code: u32,
        /// What the library says to that.
        text: String,
    },
    /// An operator that the CPU has and the device has not.
    #[error("cuda:{ordinal}: {operator} has no kernel")]
    NoKernel {
        /// The device.
        ordinal: usize,
        /// The operator.
        operator: &'static str,
    },
    /// An operator's operands are larger than its kernel can walk.
    #[error("cuda:{ordinal}: {operator} of {got}: {most} is the most")]
    TooLarge {
        /// The device.
        ordinal: usize,
        /// The operator and its extent.
        operator: &'static str,
        /// What was asked for.
        got: usize,
        /// What it can do.
        most: usize,
    },
}

impl From<CudaError> for TensorError {
    fn from(error: CudaError) -> Self {
        match error {
            CudaError::OutOfMemory { ordinal, asked, held, free } => {
                TensorError::DeviceMemory { device: format!("cuda:{ordinal}"), asked, held, free }
            }
            CudaError::Call { ordinal, call, code, text } => {
                TensorError::Device { device: format!("cuda:{ordinal}"), call, code, text }
            }
            CudaError::TooLarge { ordinal, operator, got, most } => {
                TensorError::TooLarge { device: format!("cuda:{ordinal}"), operator, got, most }
            }
            CudaError::NoKernel { ordinal, operator } => TensorError::Device {
                device: format!("cuda:{ordinal}"),
                call: operator,
                code: 0,
                text: "it has no kernel".to_owned(),
            },
            // what only `Cuda::open` returns
            CudaError::NoLibrary { .. }
            | CudaError::NoFunction { .. }
            | CudaError::NoDevice { .. }
            | CudaError::Capability { .. }
            | CudaError::OldDriver { .. } => TensorError::Device {
                device: "cuda".to_owned(),
                call: "open",
                code: 0,
                text: error.to_string(),
            },
        }
    }
}
