//! Which vector instructions the kernels use: found once, or pinned for equal bits on unequal machines.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

/// A level of vector instructions, each including those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum CpuLevel {
    /// Code that any machine runs.
    Portable,
    /// AVX2 and FMA, 256 bits.
    Avx2,
    /// AVX-512 F, BW, DQ and VL, 512 bits.
    Avx512,
}

const UNSET: u8 = u8::MAX;
static LEVEL: AtomicU8 = AtomicU8::new(UNSET);

impl CpuLevel {
    /// The best level of this machine.
    #[must_use]
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if avx2 && avx512 {
                return CpuLevel::Avx512;
            }
            if avx2 {
                return CpuLevel::Avx2;
            }
        }
        CpuLevel::Portable
    }

    /// The level in use: the pinned one, else the best.
    #[inline]
    #[must_use]
    pub fn current() -> Self {
        match LEVEL.load(Ordering::Relaxed) {
            0 => CpuLevel::Portable,
            1 => CpuLevel::Avx2,
            2 => CpuLevel::Avx512,
            _ => {
                let found = Self::detect();
                LEVEL.store(found as u8, Ordering::Relaxed);
                found
            }
        }
    }

    /// Pins the level for the whole process. Call it before any kernel runs.
    ///
    /// # Errors
    /// [`LevelUnavailable`] when this machine has less.
    pub fn pin(self) -> Result<(), LevelUnavailable> {
        let found = Self::detect();
        if self > found {
            return Err(LevelUnavailable { asked: self, found });
        }
        LEVEL.store(self as u8, Ordering::Relaxed);
        Ok(())
    }
}

impl fmt::Display for CpuLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CpuLevel::Portable => "portable",
            CpuLevel::Avx2 => "avx2",
            CpuLevel::Avx512 => "avx512",
        })
    }
}

impl FromStr for CpuLevel {
    type Err = UnknownLevel;
    fn from_str(s: &str) -> Result<Self, UnknownLevel> {
        match s {
            "portable" => Ok(CpuLevel::Portable),
            "avx2" => Ok(CpuLevel::Avx2),
            "avx512" => Ok(CpuLevel::Avx512),
            _ => Err(UnknownLevel),
        }
    }
}

/// The machine lacks the instructions asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this machine has {found} vectors, {asked} was asked for")]
pub struct LevelUnavailable {
    /// What was asked for.
    pub asked: CpuLevel,
    /// The best there is.
    pub found: CpuLevel,
}

/// Not the name of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cpu level is one of portable, avx2, avx512")]
pub struct UnknownLevel;
