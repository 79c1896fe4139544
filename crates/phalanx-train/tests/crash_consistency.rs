//! Whatever operation fails, and whatever a power cut then takes: the old checkpoint loads or the new.
#![expect(clippy::unwrap_used, reason = "a failed helper fails its test")]

use std::path::PathBuf;
use std::sync::Arc;

use phalanx_train::checkpoint::{Checkpoint, Checkpoints, Keep, Meta, Snapshot};
use phalanx_train::storage::{Disk, Fault, Faulty, Storage};
use phalanx_train::{ArtefactError, NamedTensor};

use self::sim_disk::SimDisk;

#[path = "crash_consistency/sim_disk.rs"]
mod sim_disk;

/// A checkpoint whose every file tells which one it is.
#[derive(Debug, Clone, Copy)]
struct Version {
    step: u64,
    value: f32,
    validation_loss: f64,
}

const OLD: Version = Version { step: 100, value: 1.0, validation_loss: 0.5 };
const NEW: Version = Version { step: 200, value: 2.0, validation_loss: 0.25 };
const SAME_STEP: Version = Version { step: 100, value: 3.0, validation_loss: 0.5 };
const WORSE: Version = Version { step: 200, value: 4.0, validation_loss: 0.75 };

fn checkpoints(storage: Arc<dyn Storage>, last: usize) -> Checkpoints {
    Checkpoints::new(PathBuf::from("/checkpoints"), Keep { last, best: true }, storage)
}

fn save(checkpoints: &Checkpoints, version: Version) -> Result<(), ArtefactError> {
    let meta = Meta {
        step: version.step,
        run_file: format!("value = {}", version.value),
        validation_loss: Some(version.validation_loss),
        ..Meta::default()
    };
    let values = [version.value; 5];
    let model = [NamedTensor::new("weight", &[5], values.as_slice())?];
    let optimizer = [NamedTensor::new("weight.momentum", &[5], values.as_slice())?];
    checkpoints.save(&Snapshot { meta: &meta, model: &model, optimizer: &optimizer }).map(drop)
}

/// The value that all parts of a checkpoint agree on.
fn value(checkpoint: &Checkpoint) -> f32 {
    let model = checkpoint.model[0].as_f32().unwrap();
    let optimizer = checkpoint.optimizer[0].as_f32().unwrap();
    assert_eq!(model, optimizer, "half of one checkpoint and half of another");
    assert_eq!(checkpoint.meta.run_file, format!("value = {}", model[0]));
    model[0]
}

/// Kills `save(new)` over `save(old)` at each operation, and each time lets a power cut take each
/// combination of what was not synced.
fn survives_each_crash(old: Version, new: Version, last: usize) {
    let mut crashes = 0;
    for at in 0.. {
        let disk = Arc::new(SimDisk::new());
        let before = checkpoints(disk.clone(), last);
        before.prepare().unwrap();
        save(&before, old).unwrap();

        let faulty = Arc::new(Faulty::new(disk.clone(), Fault::Kill, at));
        let saved = save(&checkpoints(faulty.clone(), last), new).is_ok();
        for survives in 0..1_u32 << disk.unsynced() {
            let after = checkpoints(Arc::new(disk.after_crash(survives)), last);
            after.prepare().unwrap();
            let loaded = after.latest_good().unwrap();
            assert!(loaded.refused.is_empty(), "at {at}: half a checkpoint: {:?}", loaded.refused);
            let got = value(&loaded.checkpoint);
            assert!(got == new.value || (got == old.value && !saved), "at {at}: {got}, saved: {saved}");
            for step in after.steps().unwrap() {
                value(&after.load(step).expect("no half of a checkpoint that was to go"));
            }
            let best = after.best().unwrap().expect("a best checkpoint");
            value(&after.load(best.step).expect("the best checkpoint loads"));
            save(&after, new).expect("the next attempt succeeds");
            assert_eq!(value(&after.latest_good().unwrap().checkpoint), new.value);
            crashes += 1;
        }
        if !faulty.hit() {
            assert!(saved);
            assert!(crashes > at, "{crashes} crashes at {at} operations");
            return;
        }
    }
}

#[test]
fn a_new_checkpoint_survives_each_crash() {
    survives_each_crash(OLD, NEW, 2);
}

#[test]
fn a_new_checkpoint_that_drives_out_the_old_survives_each_crash() {
    survives_each_crash(OLD, NEW, 1);
}

#[test]
fn a_worse_checkpoint_survives_each_crash() {
    survives_each_crash(OLD, WORSE, 1);
}

#[test]
fn a_replaced_checkpoint_survives_each_crash() {
    survives_each_crash(OLD, SAME_STEP, 2);
}

#[test]
fn a_full_disk_at_any_operation_leaves_the_old_checkpoint_and_no_rubbish() {
    for at in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let faulty = Arc::new(Faulty::new(Arc::new(Disk), Fault::DiskFull, at));
        let real = |storage| Checkpoints::new(dir.path().join("checkpoints"), Keep::default(), storage);
        let before = real(Arc::new(Disk));
        before.prepare().unwrap();
        save(&before, OLD).unwrap();

        let result = save(&real(faulty.clone()), NEW);
        let value = value(&before.latest_good().unwrap().checkpoint);
        match result {
            Ok(()) => assert_eq!(value, NEW.value),
            Err(error) => {
                assert!(matches!(&error, ArtefactError::Io { .. }), "{error:?}");
                assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
            }
        }
        before.prepare().unwrap();
        let names = Disk.list(&dir.path().join("checkpoints")).unwrap();
        assert!(!names.iter().any(|name| name.starts_with('.')), "{names:?}");
        if !faulty.hit() {
            assert_eq!(value, NEW.value);
            return;
        }
    }
}
