//! Tables with and without a header: no input may panic, and what is read is finite and rectangular.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use phalanx_data::{Column, csv};

fuzz_target!(|bytes: &[u8]| {
    for (header, label) in [(false, Column::Last), (true, Column::At(0)), (true, Column::Named("y".into()))] {
        if let Ok(rows) = csv::parse(bytes, Path::new("fuzz"), header, &label) {
            assert!(rows.features.iter().all(|value| value.is_finite()));
            assert_eq!(rows.features.len(), rows.labels.len() * rows.columns);
        }
    }
});
