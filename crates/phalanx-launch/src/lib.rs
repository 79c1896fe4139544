//! The command line of phalanx: run files, training runs, reports.
//!
//! The binary `phalanx` is [`run`] and nothing else. A program with models of its own calls it with
//! their names [registered](runfile::Registered), and has the same command line.
#![forbid(unsafe_code)]

pub mod datasets;
pub mod engine;
pub mod exit;
pub mod report;
pub mod runfile;
pub mod stop;
pub mod ui;
pub mod usage;

mod app;
mod cli;
mod commands;
mod environment;
mod launcher;
mod logging;
mod world;

pub use app::run;
