//! Damaged checkpoints are refused by name; retention keeps what it promises; bytes are a function of state.
#![expect(clippy::unwrap_used, reason = "a failed helper fails its test")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use phalanx_train::checkpoint::{Checkpoints, EpochCursor, Keep, Meta, Snapshot};
use phalanx_train::storage::Disk;
use phalanx_train::{ArtefactError, NamedTensor};
use proptest::prelude::*;

fn open(dir: &Path, keep: Keep) -> Checkpoints {
    let checkpoints = Checkpoints::new(dir.join("checkpoints"), keep, Arc::new(Disk));
    checkpoints.prepare().unwrap();
    checkpoints
}

fn save(checkpoints: &Checkpoints, step: u64, validation_loss: Option<f64>) -> Vec<u64> {
    let meta = Meta {
        step,
        samples: 64 * step,
        cursor: EpochCursor { epoch: 1, samples: 640 },
        run_file: "seed = 1\n".to_owned(),
        counters: [("dropout".to_owned(), step)].into(),
        policy: vec![1, 2, 3],
        history: [("noise".to_owned(), vec![0.5, f64::INFINITY])].into(),
        validation_loss,
        ..Meta::default()
    };
    let weight: Vec<f32> = (0..24_u8).map(f32::from).collect();
    let batches = [step];
    let model = [
        NamedTensor::new("conv.weight", &[2, 3, 4], weight.as_slice()).unwrap(),
        NamedTensor::new("norm.batches", &[], batches.as_slice()).unwrap(),
    ];
    let optimizer = [NamedTensor::new("sum", &[1], [0.1_f64].as_slice()).unwrap()];
    checkpoints.save(&Snapshot { meta: &meta, model: &model, optimizer: &optimizer }).unwrap().removed
}

const FILES: [&str; 3] = ["model.safetensors", "optimizer.safetensors", "state.bin"];

#[test]
fn a_truncated_file_is_named_and_the_previous_checkpoint_used() {
    for name in FILES {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = open(dir.path(), Keep::default());
        save(&checkpoints, 100, None);
        save(&checkpoints, 200, None);
        let file = checkpoints.dir_of(200).join(name);
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
        let loaded = checkpoints.latest_good().unwrap();
        assert_eq!(loaded.checkpoint.meta.step, 100);
        let message = loaded.refused[0].cause.to_string();
        let need = format!("{} is {} bytes long instead of {}", file.display(), bytes.len() - 1, bytes.len());
        assert_eq!((loaded.refused[0].step, message), (200, need));
    }
}

#[test]
fn a_missing_file_is_named() {
    for name in FILES {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = open(dir.path(), Keep::default());
        save(&checkpoints, 100, None);
        let file = checkpoints.dir_of(100).join(name);
        fs::remove_file(&file).unwrap();
        let error = checkpoints.latest_good().unwrap_err();
        let ArtefactError::NoGoodCheckpoint { count: 1, newest, .. } = error else { panic!("{error:?}") };
        assert_eq!(newest.to_string(), format!("cannot read {}", file.display()));
    }
}

#[test]
fn an_empty_directory_is_no_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = open(dir.path(), Keep::default());
    assert!(matches!(checkpoints.latest_good(), Err(ArtefactError::NoCheckpoint { .. })));
    let nowhere = Checkpoints::new(dir.path().join("none"), Keep::default(), Arc::new(Disk));
    assert!(matches!(nowhere.latest_good(), Err(ArtefactError::NoCheckpoint { .. })));
}

#[test]
fn a_directory_renamed_to_another_step_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = open(dir.path(), Keep::default());
    save(&checkpoints, 100, None);
    fs::rename(checkpoints.dir_of(100), checkpoints.dir_of(900)).unwrap();
    assert!(matches!(checkpoints.load(900), Err(ArtefactError::WrongStep { got: 100, .. })));
}

#[test]
fn the_last_k_and_the_best_stay() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = open(dir.path(), Keep { last: 2, best: true });
    assert_eq!(save(&checkpoints, 1, Some(0.9)), [0_u64; 0]);
    assert_eq!(save(&checkpoints, 2, Some(0.3)), [0_u64; 0]);
    assert_eq!(save(&checkpoints, 3, Some(0.5)), [1]);
    assert_eq!(save(&checkpoints, 4, Some(f64::NAN)), [0_u64; 0]);
    assert_eq!(save(&checkpoints, 5, None), [3]);
    assert_eq!(checkpoints.steps().unwrap(), [2, 4, 5]);
    assert_eq!(checkpoints.best().unwrap().unwrap().step, 2);
    assert_eq!(save(&checkpoints, 6, Some(0.3)), [4]);
    assert_eq!(checkpoints.best().unwrap().unwrap().step, 2, "the earlier stays on a tie");
    assert_eq!(save(&checkpoints, 7, Some(0.2)), [2, 5]);
    assert_eq!(checkpoints.steps().unwrap(), [6, 7]);
}

#[test]
fn a_lost_mark_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = open(dir.path(), Keep::default());
    for (step, loss) in [(1, 0.9), (2, 0.3), (3, 0.5)] {
        save(&checkpoints, step, Some(loss));
    }
    let mark = dir.path().join("checkpoints/best.json");
    assert_eq!(fs::read_to_string(&mark).unwrap(), "{\"step\":2,\"validation_loss\":0.3}\n");
    for text in ["{", "", "{\"step\":7,\"validation_loss\":0.1}"] {
        fs::write(&mark, text).unwrap();
        assert_eq!(checkpoints.best().unwrap().unwrap().step, 2, "{text}");
    }
}

#[test]
fn a_refused_checkpoint_set_aside_drives_out_no_good_one() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = open(dir.path(), Keep { last: 1, best: false });
    save(&checkpoints, 100, None);
    let meta = Meta { step: 300, ..Meta::default() };
    let more = open(dir.path(), Keep { last: 2, best: false });
    more.save(&Snapshot { meta: &meta, model: &[], optimizer: &[] }).unwrap();
    fs::write(checkpoints.dir_of(300).join("state.bin"), b"").unwrap();
    assert_eq!(checkpoints.latest_good().unwrap().refused[0].step, 300);
    checkpoints.set_aside(300).unwrap();
    assert_eq!(save(&checkpoints, 200, None), [100]);
    assert_eq!(checkpoints.steps().unwrap(), [200]);
    assert!(dir.path().join("checkpoints/refused-step-00000300").is_dir());
}

#[test]
fn equal_state_gives_equal_bytes_in_any_directory() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [one, two] = dirs.each_ref().map(|dir| open(dir.path(), Keep::default()));
    save(&one, 100, Some(0.5));
    save(&two, 100, Some(0.5));
    for name in FILES {
        let [one, two] = [&one, &two].map(|dir| fs::read(dir.dir_of(100).join(name)).unwrap());
        assert_eq!(one, two, "{name}");
    }
}

proptest! {
    // each case syncs three files
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_changed_byte_of_any_file_is_refused(file in 0..FILES.len(), at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = open(dir.path(), Keep::default());
        save(&checkpoints, 100, None);
        let path = checkpoints.dir_of(100).join(FILES[file]);
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        fs::write(&path, bytes).unwrap();
        let error = checkpoints.load(100).unwrap_err();
        prop_assert!(error.to_string().contains(FILES[file]), "{}", error);
    }
}
