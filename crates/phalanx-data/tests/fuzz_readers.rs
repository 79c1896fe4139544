//! The readers against bytes that nobody meant: random ones, and good files with a few bytes changed.
//!
//! Whatever comes in, a reader returns, and what it returns can be read out. Raise `PROPTEST_CASES`
//! to look longer.
#![expect(clippy::unwrap_used, reason = "functions that tests call are tests")]

use std::io::Write;
use std::path::Path;

use phalanx_data::{BatchBuffers, Column, Dataset, Images, Normalise, Table, Text, cifar, csv, idx};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

/// A way to spoil a file.
#[derive(Clone, Debug)]
enum Change {
    Set(usize, u8),
    Cut(usize),
    Repeat(usize, usize),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, to)| Change::Set(at, to)),
        any::<usize>().prop_map(Change::Cut),
        (any::<usize>(), 0_usize..40).prop_map(|(at, len)| Change::Repeat(at, len)),
    ];
    vec(change, 0..6)
}

fn spoil(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let len = bytes.len().max(1);
        match *change {
            // half of the changes meet the first bytes, where headers are
            Change::Set(at, to) => {
                let at = if at % 2 == 0 { at % len.min(20) } else { at % len };
                bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = to);
            }
            Change::Cut(at) => bytes.truncate(at % len),
            Change::Repeat(at, n) => {
                let again: Vec<u8> = bytes.iter().skip(at % len).take(n).copied().collect();
                bytes.extend(again);
            }
        }
    }
    bytes
}

fn idx_file(packed: bool) -> Vec<u8> {
    let plain: Vec<u8> = [&[0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 4][..], &[7; 24]].concat();
    if !packed {
        return plain;
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&plain).unwrap();
    encoder.finish().unwrap()
}

fn read_idx(bytes: &[u8]) {
    let Ok(array) = idx::parse(bytes, Path::new("fuzz"), &[1, 2, 3, 4]) else { return };
    assert_eq!(array.values.len(), array.dims.iter().product::<usize>());
    let samples = array.dims[0];
    let normalise = Normalise { scale: 255.0, mean: vec![0.0], std: vec![1.0] };
    let each = array.values.len() / samples;
    let images = Images::new(array.values, vec![0; samples], vec![each], 1, &normalise).unwrap();
    read_out(&images);
}

fn read_csv(bytes: &[u8]) {
    for (header, label) in [(false, Column::Last), (true, Column::At(0)), (true, Column::Named("y".into()))] {
        let Ok(rows) = csv::parse(bytes, Path::new("fuzz"), header, &label) else { continue };
        assert!(rows.features.iter().all(|value| value.is_finite()));
        read_out(&Table::new(rows.features, rows.labels, rows.columns, usize::MAX).unwrap());
    }
}

fn read_cifar(bytes: &[u8]) {
    let Ok(records) = cifar::parse(bytes, Path::new("fuzz")) else { return };
    let normalise = Normalise::measured(&records.pixels, 3, 1024, 255.0);
    read_out(&Images::new(records.pixels, records.labels, vec![3, 32, 32], 10, &normalise).unwrap());
}

fn read_text(bytes: Vec<u8>, context: usize) {
    let len = bytes.len();
    if let Ok(text) = Text::new(bytes.into(), 0..len, context) {
        read_out(&text);
    }
}

fn read_out(set: &dyn Dataset) {
    let mut buffers = BatchBuffers::default();
    set.fill(&[0, set.len() - 1], &mut buffers);
    assert!(buffers.features().iter().all(|feature| feature.is_finite()));
}

proptest! {
    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..4000), context in 0_usize..300) {
        read_idx(&bytes);
        read_idx(&[&[0, 0, 8][..], &bytes].concat());
        read_csv(&bytes);
        read_cifar(&bytes);
        read_text(bytes, context);
    }

    #[test]
    fn spoilt_idx(packed: bool, changes in changes()) {
        read_idx(&spoil(idx_file(packed), &changes));
    }

    #[test]
    fn spoilt_csv(
        text in prop_oneof![
            Just("x,y,z\n1,0,2.5\n-1e-3,1,7\r\n\n\"3\",2,4\n".to_owned()),
            Just("1,2\n3,4\n".to_owned()),
            "[0-9.,\"einfa \r\n-]{0,60}",
        ],
        changes in changes(),
    ) {
        read_csv(&spoil(text.into_bytes(), &changes));
    }

    #[test]
    fn spoilt_cifar(changes in changes()) {
        read_cifar(&spoil(vec![3; 2 * 3073], &changes));
    }
}
