//! The whole loop as a library, on ranks that are threads of one process.

mod compression;
mod devices;
mod equality;
mod failures;
mod memory;
mod methods;
mod policies;
mod robust;
mod statistics;
