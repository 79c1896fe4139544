//! The files that the reference programs in `tests/reference` of the root wrote.

use serde::de::DeserializeOwned;

/// A file as it is.
pub(crate) fn bytes(file: &str) -> Vec<u8> {
    let path = format!("{}/../../tests/reference/{file}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// A file of JSON.
pub(crate) fn json<T: DeserializeOwned>(file: &str) -> T {
    serde_json::from_slice(&bytes(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}
