//! Data sets behind trait objects: views, parts, and memory that is reused.
#![expect(clippy::unwrap_used, reason = "functions that tests call are tests")]

use std::sync::Arc;

use phalanx_data::{
    BatchBuffers, DataError, Dataset, InputsMut, SampleKind, Source, Splits, Subset, Table, Text,
};

fn numbers(n: u16) -> Arc<dyn Dataset> {
    let rows = (0..n).flat_map(|row| [f32::from(row), -f32::from(row)]).collect();
    Arc::new(Table::new(rows, (0..n).map(u32::from).collect(), 2, usize::from(n)).unwrap())
}

fn text() -> Arc<dyn Dataset> {
    let bytes: Arc<[u8]> = (0..=255).cycle().take(1025).collect();
    Arc::new(Text::new(bytes, 0..1025, 4).unwrap())
}

#[test]
fn data_sets_are_shared_between_threads() {
    fn shared<T: Send + Sync + ?Sized>() {}
    shared::<dyn Dataset>();
    shared::<Splits>();
}

/// 150 samples: two full chunks of a view and a part of a third.
#[test]
fn a_view_of_a_view_reads_what_it_stands_for() {
    let whole = numbers(400);
    let odd: Arc<dyn Dataset> = Arc::new(Subset::new(whole.clone(), (0..200).map(|i| 2 * i + 1).collect()));
    let view = Subset::new(odd, (0..150).rev().collect());
    let (mut through, mut direct) = (BatchBuffers::default(), BatchBuffers::default());
    view.fill(&(0..150).collect::<Vec<_>>(), &mut through);
    whole.fill(&(0..150).map(|i| 2 * (149 - i) + 1).collect::<Vec<_>>(), &mut direct);
    assert_eq!(through.features(), direct.features());
    assert_eq!(through.labels(), direct.labels());
    assert_eq!(through.labels()[..2], [299, 297]);

    let whole = text();
    let view = Subset::new(whole.clone(), vec![7, 3]);
    view.fill(&[1, 0], &mut through);
    whole.fill(&[3, 7], &mut direct);
    assert_eq!(through.tokens(), direct.tokens());
    assert_eq!(through.labels(), direct.labels());
}

#[test]
fn buffers_are_reused_and_hold_one_batch_only() {
    let set = numbers(100);
    let mut buffers = BatchBuffers::with_capacity(set.kind(), 64);
    assert!(buffers.is_empty());
    set.fill(&[0; 64], &mut buffers);
    let places = (buffers.features().as_ptr(), buffers.labels().as_ptr());
    for len in [64, 1, 33, 64] {
        set.fill(&vec![5; len], &mut buffers);
        assert_eq!((buffers.len(), buffers.features().len(), buffers.labels().len()), (len, 2 * len, len));
        assert_eq!((buffers.features().as_ptr(), buffers.labels().as_ptr()), places);
    }
    // the same buffers for a set of the other kind hold nothing of the first
    text().fill(&[0], &mut buffers);
    assert_eq!((buffers.features().len(), buffers.tokens().len()), (0, 4));
}

#[test]
fn memory_of_the_caller_is_written_directly() {
    let (mut features, mut labels) = ([0.0; 4], [0; 2]);
    numbers(10).write(&[3, 4], InputsMut::Features(&mut features), &mut labels);
    assert_eq!((features, labels), ([3.0, -3.0, 4.0, -4.0], [3, 4]));
}

#[test]
#[should_panic(expected = "was given memory for tokens")]
fn memory_of_another_kind_is_refused() {
    numbers(10).write(&[0], InputsMut::Tokens(&mut [0; 2]), &mut [0]);
}

#[test]
#[should_panic(expected = "sequence 256 of 256")]
fn a_sequence_beyond_the_last_is_refused() {
    text().fill(&[256], &mut BatchBuffers::default());
}

#[test]
#[should_panic(expected = "sample 10 of a set of 10 was chosen")]
fn a_view_of_what_is_not_there_is_refused() {
    Subset::new(numbers(10), vec![0, 10]);
}

#[test]
fn held_out_samples_are_not_trained_on() {
    let parts = Splits::new(numbers(100), numbers(3)).hold_out(0.25, 9).unwrap();
    let validation = parts.validation.unwrap();
    let labels = |part: &dyn Dataset| {
        let mut buffers = BatchBuffers::default();
        part.fill(&(0..part.len()).collect::<Vec<_>>(), &mut buffers);
        buffers.labels().to_vec()
    };
    let (train, held_out) = (labels(&*parts.train), labels(&*validation));
    assert_eq!((train.len(), held_out.len(), parts.test.len()), (75, 25, 3));
    let mut all = [train, held_out].concat();
    all.sort_unstable();
    assert_eq!(all, (0..100).collect::<Vec<_>>());

    let none = Splits::new(numbers(100), numbers(3)).hold_out(0.0, 9).unwrap();
    assert!(none.validation.is_none() && none.train.len() == 100);
    let refused = Splits::new(numbers(100), numbers(3)).hold_out(1.0, 9);
    assert!(matches!(refused, Err(DataError::Fraction { field: "data.validation", .. })));
}

#[test]
fn tables_that_do_not_fit_are_refused() {
    assert!(matches!(Table::new(vec![], vec![], 1, 1), Err(DataError::NoSamples { .. })));
    assert!(matches!(
        Table::new(vec![0.0; 3], vec![0; 2], 2, 1),
        Err(DataError::Size { got: 3, need: 4, .. })
    ));
    assert!(matches!(Table::new(vec![], vec![0; 2], 0, 1), Err(DataError::Size { .. })));
    let refused = Table::new(vec![0.0; 2], vec![0, 1], 1, 1);
    assert!(matches!(refused, Err(DataError::Class { sample: 1, got: 1, classes: 1 })));
}

#[test]
fn kinds_say_how_long_samples_are() {
    let image = SampleKind::Classification { features: vec![3, 4, 5], classes: 7 };
    assert_eq!((image.inputs_per_sample(), image.labels_per_sample(), image.outputs()), (60, 1, 7));
    let text = SampleKind::Language { vocab: 256, context: 9 };
    assert_eq!((text.inputs_per_sample(), text.labels_per_sample(), text.outputs()), (9, 9, 256));
}

#[test]
fn a_text_file_is_read_packed_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text");
    std::fs::write(&path, [b'x'; 1000]).unwrap();
    let parts = Source::Text(phalanx_data::TextOptions::new(&path)).open();
    assert!(matches!(parts, Err(DataError::Context { got: 128, most: 49, bytes: 50 })));
    let mut packed =
        flate2::write::GzEncoder::new(std::fs::File::create(&path).unwrap(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &[b'x'; 10_000]).unwrap();
    packed.finish().unwrap();
    let parts = Source::Text(phalanx_data::TextOptions::new(&path)).open().unwrap();
    // 9,500 bytes make (9,500 - 1) / 128 sequences
    assert_eq!((parts.train.len(), parts.test.len()), (74, 3));
}
