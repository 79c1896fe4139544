//! `summary.json`: the figures at the end of a run, for people, scripts and reports.
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::events::GradientTraffic;
use crate::rundir::{read_whole, write_whole};
use crate::{ArtefactError, json_number};

/// The longest summary or failure that is read, in bytes.
pub(crate) const MAX_LEN: u64 = 4 << 20;

/// The figures at the end of a run.
///
/// Keys stay; more may join them. A figure that does not apply, such as the accuracy of a language model,
/// is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// Name of the run.
    pub name: String,
    /// Version of phalanx.
    pub version: String,
    /// Kind of the model.
    pub model: String,
    /// Number of its parameters.
    pub parameters: u64,
    /// Share of right answers on the test set, 0 to 1.
    #[serde(with = "json_number::option", skip_serializing_if = "Option::is_none")]
    pub test_accuracy: Option<f64>,
    /// Mean loss on the test set.
    #[serde(with = "json_number::option", skip_serializing_if = "Option::is_none")]
    pub test_loss: Option<f64>,
    /// Mean loss over the last step's batch.
    #[serde(with = "json_number::option", skip_serializing_if = "Option::is_none")]
    pub train_loss: Option<f64>,
    /// Least mean loss on the validation set.
    #[serde(with = "json_number::option", skip_serializing_if = "Option::is_none")]
    pub best_validation_loss: Option<f64>,
    /// The step after which it was least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_validation_step: Option<u64>,
    /// Samples a second of all ranks together, the median over the steps.
    #[serde(with = "json_number")]
    pub samples_per_second: f64,
    /// Seconds of training, evaluation and checkpoints included, of all processes that worked on the run.
    #[serde(with = "json_number")]
    pub seconds: f64,
    /// Steps done.
    pub steps: u64,
    /// Samples used by all ranks together.
    pub samples: u64,
    /// Whole epochs.
    pub epochs: u64,
    /// Ranks of the job that ended it.
    pub ranks: u64,
    /// Most memory that the process, or the sum of the processes of the ranks, had resident, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_rss_bytes: Option<u64>,
    /// Global batch of the last step, in samples.
    pub final_batch: u64,
    /// Share of the training time that communication took and no computation hid, 0 to 1.
    #[serde(with = "json_number")]
    pub exposed_comm_share: f64,
    /// What rank 0 sent of its gradients in all steps of this process, where they were compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic: Option<GradientTraffic>,
    /// Steps left out because a loss or gradient was not finite.
    pub skipped_steps: u64,
    /// What the rule over ranks is over, `nodes`, where that is not ranks and it left some out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over: Option<String>,
    /// How many steps of this process each rank was left out of, by rank, or each node where `over` says so; empty where
    /// the rule leaves none out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps_left_out: Vec<u64>,
    /// What federated training adds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub federated: Option<FederatedFigures>,
    /// Parameters that never got a gradient.
    pub parameters_without_gradient: Vec<String>,
    /// How often the run went on from a checkpoint.
    pub resumes: u64,
    /// Whether it stopped on request rather than at its planned end.
    pub stopped: bool,
    /// SHA-256 of `model.safetensors`, in hexadecimal.
    pub model_sha256: String,
}

/// The figures of federated training.
///
/// Rates count an update of a client in a round once, over all rounds of the run that changed the model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FederatedFigures {
    /// Clients there are.
    pub clients: u64,
    /// Rounds that left the model as it was.
    pub unusable_rounds: u64,
    /// Updates of clients that were received.
    pub updates: u64,
    /// Updates of hostile clients among them.
    pub hostile_updates: u64,
    /// Share of the updates of hostile clients that the rule left out, 0 to 1: its true positives.
    #[serde(with = "json_number::option", skip_serializing_if = "Option::is_none")]
    pub caught: Option<f64>,
    /// Share of the updates of honest clients that the rule left out, 0 to 1: its false positives.
    #[serde(with = "json_number::option", skip_serializing_if = "Option::is_none")]
    pub wronged: Option<f64>,
    /// Share of the samples that open the backdoor to which the final model gives the attacker's label, 0 to 1.
    #[serde(with = "json_number::option", skip_serializing_if = "Option::is_none")]
    pub backdoor_accuracy: Option<f64>,
    /// Mean seconds of a round.
    #[serde(with = "json_number")]
    pub round_seconds: f64,
    /// Mean seconds of a round beyond local training and evaluation.
    #[serde(with = "json_number")]
    pub server_seconds: f64,
}

impl Summary {
    /// Writes it whole or not at all.
    ///
    /// # Errors
    /// [`ArtefactError::Io`].
    pub fn write(&self, file: &Path) -> Result<(), ArtefactError> {
        write_json(file, self)
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`ArtefactError::Io`], [`ArtefactError::TooLong`], [`ArtefactError::Json`].
    pub fn read(file: &Path) -> Result<Self, ArtefactError> {
        read_json(file)
    }
}

/// The most memory this process ever had resident, in bytes; none where Linux does not say.
///
/// # Reference
/// `VmHWM` of `/proc/self/status`, proc(5).
pub fn peak_rss_bytes() -> Option<u64> {
    parse_peak_rss(&fs::read_to_string("/proc/self/status").ok()?)
}

fn parse_peak_rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1024)
}

pub(crate) fn write_json<T: Serialize>(file: &Path, value: &T) -> Result<(), ArtefactError> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|source| ArtefactError::Json { file: file.to_path_buf(), source })?;
    text.push(b'\n');
    write_whole(file, &text)
}

pub(crate) fn read_json<T: for<'de> Deserialize<'de>>(file: &Path) -> Result<T, ArtefactError> {
    let bytes = read_whole(file, MAX_LEN)?;
    serde_json::from_slice(&bytes).map_err(|source| ArtefactError::Json { file: file.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_apply_is_absent_and_what_diverged_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("summary.json");
        let summary = Summary { test_loss: Some(f64::NAN), seconds: 1.5, steps: 3, ..Summary::default() };
        summary.write(&file).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(json["test_loss"], "NaN");
        assert_eq!(json.get("test_accuracy"), None);
        let back = Summary::read(&file).unwrap();
        assert!(back.test_loss.unwrap().is_nan());
        assert_eq!((back.seconds, back.steps, back.test_accuracy), (1.5, 3, None));
    }

    #[test]
    fn keys_that_scripts_rely_on_stay() {
        let figures = Summary {
            test_accuracy: Some(0.98),
            test_loss: Some(0.1),
            peak_rss_bytes: Some(1),
            ..Summary::default()
        };
        let json = serde_json::to_value(figures).unwrap();
        for key in [
            "test_accuracy",
            "test_loss",
            "samples_per_second",
            "seconds",
            "steps",
            "samples",
            "ranks",
            "peak_rss_bytes",
            "final_batch",
            "model_sha256",
        ] {
            assert!(json.get(key).is_some(), "{key}");
        }
    }

    #[test]
    fn peak_rss_is_read_in_bytes() {
        assert_eq!(parse_peak_rss("Name:\tx\nVmHWM:\t   12 kB\nVmRSS:\t 9 kB\n"), Some(12 << 10));
        assert_eq!(parse_peak_rss("VmRSS:\t 9 kB\n"), None);
        assert!(peak_rss_bytes().is_some_and(|bytes| bytes > 1 << 20), "a test takes more than 1 MiB");
    }
}
