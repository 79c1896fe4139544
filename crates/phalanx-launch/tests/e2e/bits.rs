//! Runs that must leave the same model file, byte for byte.

use crate::program::{Dir, SMALL};

#[test]
fn reproducible_models_do_not_depend_on_how_the_work_is_split() {
    let dir = Dir::new(&SMALL.replace("steps = 60", "steps = 25\nreduction = \"reproducible\""));
    let need = dir.model("one", &["--ranks", "1"]);
    for (name, change) in [
        ("two", "train.ranks=2"),
        ("three", "train.ranks=3"),
        ("four", "train.ranks=4"),
        ("buckets", "train.bucket_bytes=512"),
        ("first-bucket", "train.first_bucket_bytes=8"),
    ] {
        assert_eq!(dir.model(name, &["--set", change]), need, "{change}");
    }
    assert_ne!(dir.model("seed", &["--set", "seed=4"]), need, "the seed matters");
}

#[test]
fn reproducible_models_do_not_depend_on_the_micro_batch() {
    let dir = Dir::new(&SMALL.replace("steps = 60", "steps = 25\nreduction = \"reproducible\""));
    let need = dir.model("whole", &[]);
    // shards of 50 / 8 samples, cut into parts of 3
    assert_eq!(dir.model("parts", &["--set", "train.micro_batch=3"]), need);
}

#[test]
fn fast_models_are_the_same_from_run_to_run() {
    let dir = Dir::new(&SMALL.replace("steps = 60", "steps = 25"));
    let three = ["--ranks", "3"];
    assert_eq!(dir.model("one", &three), dir.model("again", &three));
}
