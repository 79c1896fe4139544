//! Trigger patterns: a backdoor that opens to a few bright pixels, whole or in four parts.

use phalanx_grad::GradError;
use serde::{Deserialize, Serialize};

/// Four bars near the upper left corner of an image: two beside each other, two below these.
///
/// A centralised attacker stamps all four. In the distributed backdoor attack each attacker trains with one of them, and
/// all four together open the backdoor.
///
/// # Reference
/// Xie et al., "DBA: Distributed Backdoor Attacks against Federated Learning", ICLR 2020; `size`, `gap` and `shift` are
/// 4, 2, 0 there for MNIST and 6, 3, 0 for CIFAR-10.
///
/// # Examples
/// ```
/// use phalanx_grad::GradError;
/// use phalanx_robust::attack::Trigger;
/// let trigger = Trigger { size: 2, gap: 1, ..Trigger::default() };
/// let mut image = [0.0; 36];
/// trigger.stamp_part(1, &mut image, 6)?;
/// // the second bar: behind two pixels and a gap of one
/// assert_eq!(image[..6], [0.0, 0.0, 0.0, 1.0, 1.0, 0.0]);
/// # Ok::<(), GradError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trigger {
    /// Pixels in a bar.
    pub size: usize,
    /// Pixels between bars.
    pub gap: usize,
    /// Pixels from the corner, both ways.
    pub shift: usize,
    /// What the pixels become.
    pub value: f32,
    /// The label that the backdoor gives.
    pub target: u32,
}

impl Default for Trigger {
    fn default() -> Self {
        Trigger { size: 4, gap: 2, shift: 0, value: 1.0, target: 2 }
    }
}

impl Trigger {
    /// Parts that the trigger has.
    pub const PARTS: usize = 4;

    /// Stamps all parts on one channel of an image, row by row with `width` pixels a row.
    ///
    /// # Errors
    /// [`GradError::Length`] when the pattern does not fit.
    pub fn stamp(&self, image: &mut [f32], width: usize) -> Result<(), GradError> {
        (0..Self::PARTS).try_for_each(|part| self.stamp_part(part, image, width))
    }

    /// Stamps one part; attacker `i` takes part `i mod 4`.
    ///
    /// # Errors
    /// [`GradError::Length`] when the pattern does not fit.
    pub fn stamp_part(&self, part: usize, image: &mut [f32], width: usize) -> Result<(), GradError> {
        let part = part % Self::PARTS;
        let row = self.shift + part / 2 * (self.gap + 1);
        let column = self.shift + part % 2 * (self.size + self.gap);
        let (got, need) = (width, column + self.size);
        if got < need {
            return Err(GradError::Length { what: "a row of the image under a trigger", got, need });
        }
        let (got, start) = (image.len(), row * width + column);
        let pixels = image.get_mut(start..start + self.size);
        let need = start + self.size;
        pixels.ok_or(GradError::Length { what: "the image under a trigger", got, need })?.fill(self.value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_parts_make_the_whole() {
        let trigger = Trigger { size: 3, gap: 1, shift: 1, value: 2.0, target: 0 };
        let (mut whole, mut parts) = ([0.0; 100], [0.0; 100]);
        trigger.stamp(&mut whole, 10).unwrap();
        (0..4).for_each(|part| trigger.stamp_part(part, &mut parts, 10).unwrap());
        assert_eq!(whole, parts);
        let stamped: Vec<usize> = (0..100).filter(|at| whole[*at] == 2.0).collect();
        assert_eq!(stamped, [11, 12, 13, 15, 16, 17, 31, 32, 33, 35, 36, 37]);
        assert!(trigger.stamp(&mut [0.0; 100], 7).is_err());
        assert!(trigger.stamp(&mut [0.0; 30], 10).is_err());
    }
}
