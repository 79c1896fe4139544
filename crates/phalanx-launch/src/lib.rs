//! The command line of phalanx: run files, training runs, reports
#![forbid(unsafe_code)]
