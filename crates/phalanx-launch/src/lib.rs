//! The command line of phalanx: run files, training runs, reports.
//!
//! The binary `phalanx` is [`run`] and nothing else. A program with models of its own calls it with them
//! [registered](runfile::Registered), and has the same command line.
#![forbid(unsafe_code)]

pub mod aggregation;
pub mod datasets;
pub mod engine;
pub mod exit;
pub mod experiment;
pub mod faults;
mod forecast;
pub mod report;
pub mod runfile;
pub mod schedule_file;
pub mod stop;
pub mod ui;
pub mod usage;

mod app;
mod cli;
mod cluster;
mod commands;
mod environment;
mod federation;
mod hosts;
mod launcher;
mod logging;
mod supervise;
mod world;

pub use app::run;
pub use cluster::ClusterError;
pub use hosts::HostsError;
pub use supervise::StarterError;
