//! One number everywhere: the free rider's 0, and what breaks arithmetic.

use super::{Attack, Scene, check};
use phalanx_grad::GradError;
use serde::{Deserialize, Serialize};

/// The same number in every coordinate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Constant {
    /// 0: takes part and adds nothing.
    Zero,
    /// Not a number.
    Nan,
    /// Infinite.
    Inf,
    /// 1e38, whose square is no `f32`.
    Huge,
}

impl Attack for Constant {
    fn name(&self) -> &'static str {
        match self {
            Constant::Zero => "zero",
            Constant::Nan => "nan",
            Constant::Inf => "inf",
            Constant::Huge => "huge",
        }
    }

    fn forge(&mut self, scene: &Scene<'_>, out_d: &mut [f32]) -> Result<(), GradError> {
        check(self.name(), scene, 0, out_d)?;
        out_d.fill(match self {
            Constant::Zero => 0.0,
            Constant::Nan => f32::NAN,
            Constant::Inf => f32::INFINITY,
            Constant::Huge => 1e38,
        });
        Ok(())
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn is_shardable(&self) -> bool {
        true
    }
}
