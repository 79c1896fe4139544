//! The sizes of a model as a run file gives them.

use crate::NnError;
use std::collections::BTreeMap;

/// A value of a model's configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum ConfigValue {
    /// A whole number.
    Int(i64),
    /// Any number.
    Float(f64),
    /// A word.
    Text(String),
    /// Yes or no.
    Bool(bool),
    /// Whole numbers.
    List(Vec<i64>),
}

/// Keys and values of a model's section; a builder takes what it knows, what is left is an error.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelConfig {
    values: BTreeMap<String, ConfigValue>,
    taken: Vec<&'static str>,
}

impl ModelConfig {
    /// No keys: the model's own sizes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key.
    #[must_use]
    pub fn with(mut self, key: &str, value: ConfigValue) -> Self {
        self.values.insert(key.to_owned(), value);
        self
    }

    /// A positive whole number.
    ///
    /// # Errors
    /// [`NnError::Config`] for anything else.
    pub fn size(&mut self, key: &'static str, default: usize) -> Result<usize, NnError> {
        self.taken.push(key);
        match self.values.remove(key) {
            None => Ok(default),
            Some(ConfigValue::Int(v)) if v > 0 => Ok(usize::try_from(v).unwrap_or(usize::MAX)),
            Some(got) => Err(refuse(key, "a positive whole number", &got)),
        }
    }

    /// Positive whole numbers.
    ///
    /// # Errors
    /// [`NnError::Config`] for anything else.
    pub fn sizes(&mut self, key: &'static str, default: &[usize]) -> Result<Vec<usize>, NnError> {
        self.taken.push(key);
        match self.values.remove(key) {
            None => Ok(default.to_vec()),
            Some(ConfigValue::List(v)) if v.iter().all(|v| *v > 0) => {
                Ok(v.iter().map(|v| usize::try_from(*v).unwrap_or(usize::MAX)).collect())
            }
            Some(got) => Err(refuse(key, "positive whole numbers in brackets", &got)),
        }
    }

    /// A probability below 1.
    ///
    /// # Errors
    /// [`NnError::Config`] for anything else.
    pub fn probability(&mut self, key: &'static str, default: f64) -> Result<f64, NnError> {
        self.taken.push(key);
        match self.values.remove(key) {
            None => Ok(default),
            Some(ConfigValue::Float(v)) if (0.0..1.0).contains(&v) => Ok(v),
            Some(ConfigValue::Int(0)) => Ok(0.0),
            Some(got) => Err(refuse(key, "a probability in 0..1", &got)),
        }
    }

    /// Checks that every key was taken.
    pub(crate) fn finish(self, kind: &str) -> Result<(), NnError> {
        match self.values.into_keys().next() {
            None => Ok(()),
            Some(key) => Err(NnError::Config {
                model: kind.to_owned(),
                detail: format!("`{key}` is not one of its keys: {}", self.taken.join(", ")),
            }),
        }
    }
}

fn refuse(key: &str, need: &str, got: &ConfigValue) -> NnError {
    NnError::Config { model: key.to_owned(), detail: format!("needs {need}, got {got:?}") }
}
