//! Whole runs of the built program: what it trains, what it leaves, how it fails, and how it goes on.

mod adaptive;
mod artefacts;
mod bits;
mod cluster;
#[cfg(feature = "nccl")]
mod devices;
mod failures;
mod federated;
mod launch;
mod program;
mod resume;
mod robust;
mod torch;
