//! Randomness by counter: every draw is a pure function of (seed, purpose, step, index).
//!
//! [`Stream`] names a sequence by what it is for, and gives any element of it at once. Nothing is
//! carried from draw to draw, so the same numbers appear whatever the number of ranks, the order of
//! the draws or the place at which a run was resumed.
//!
//! ```
//! use phalanx_tensor::rng::{Purpose, Stream};
//!
//! let epoch = 3;
//! let stream = Stream::new(1, Purpose::Shuffle, epoch);
//! let mut order: Vec<usize> = (0..10).collect();
//! stream.shuffle(&mut order);
//!
//! let again = Stream::new(1, Purpose::Shuffle, epoch);
//! assert_eq!(stream.at(7), again.at(7));
//! assert_ne!(stream.at(7), Stream::new(1, Purpose::Shuffle, epoch + 1).at(7));
//! ```
//!
//! The kinds of draw read the same blocks: two different ones from one stream are not independent.
//! Take a stream for each. Not for cryptography.

/// Four words that one block of the generator yields.
pub type Block = [u32; 4];

/// What random numbers are for; streams of different purposes are unrelated.
///
/// The number behind a purpose is part of every stored result and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// Initial parameters.
    Init,
    /// The order of the samples of an epoch.
    Shuffle,
    /// Which samples are held out.
    Split,
    /// Dropout masks.
    Dropout,
    /// What a hostile rank sends.
    Attack,
    /// Noise added to gradients or data.
    Noise,
    /// Where the compression of gradients begins.
    Compression,
    /// Which samples belong to which client.
    Partition,
    /// Which clients take part in a round, and which of them answer.
    Cohort,
    /// What a client does in a round by itself.
    Client,
    /// The user's own draws, which are numbered apart from all of the above.
    User(u16),
}

impl Purpose {
    fn code(self) -> u32 {
        match self {
            Self::Init => 0,
            Self::Shuffle => 1,
            Self::Split => 2,
            Self::Dropout => 3,
            Self::Attack => 4,
            Self::Noise => 5,
            Self::Compression => 6,
            Self::Partition => 7,
            Self::Cohort => 8,
            Self::Client => 9,
            Self::User(n) => 0x1_0000 + u32::from(n),
        }
    }
}

/// A sequence of random blocks with access to any of them.
///
/// # Numerics
/// Philox4x32-10. The key and the upper half of the counter come from one block keyed by the seed,
/// whose counter holds purpose and step: a bijection, so two streams of one seed never share both.
/// Words, uniforms and integers are the same bits on every machine; normals go through the
/// platform's `ln`, `sin` and `cos` in `f64` and may differ there in the last place.
///
/// # Reference
/// Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    key: [u32; 2],
    upper: [u32; 2],
}

impl Stream {
    /// The stream of a seed for one purpose at one step (or epoch, or layer: what counts there).
    pub fn new(seed: u64, purpose: Purpose, step: u64) -> Self {
        let [step_low, step_high] = halves(step);
        // a word of its own keeps these blocks apart from plain Philox with the same seed as key
        let [a, b, c, d] = philox([step_low, step_high, purpose.code(), DERIVE], halves(seed));
        Self { key: [a, b], upper: [c, d] }
    }

    /// Key and upper half of the counter: what a device needs to draw the same blocks. Block `index` is Philox4x32-10 of
    /// the counter `[index low, index high, upper[0], upper[1]]` under the key.
    #[must_use]
    pub fn key_and_upper(&self) -> [[u32; 2]; 2] {
        [self.key, self.upper]
    }

    /// The block at `index`.
    #[inline]
    pub fn at(&self, index: u64) -> Block {
        self.block(index, 0)
    }

    /// A number in `[0, 1)`, a multiple of 2^-24: word `index % 4` of block `index / 4`.
    #[inline]
    pub fn uniform_f32(&self, index: u64) -> f32 {
        unit_f32(self.at(index / 4)[lane(index)])
    }

    /// A number from N(0, 1).
    ///
    /// # Numerics
    /// [`normal_f64`](Self::normal_f64), rounded.
    #[inline]
    pub fn normal_f32(&self, index: u64) -> f32 {
        self.normal_f64(index) as f32
    }

    /// A number from N(0, 1), at most 6.77 from 0.
    ///
    /// # Numerics
    /// Box and Muller on two words of 32 bits: elements `2 k` and `2 k + 1` are the cosine and the
    /// sine of one pair.
    pub fn normal_f64(&self, index: u64) -> f64 {
        let words = self.at(index / 4);
        let pair = lane(index) & 2;
        let (cosine, sine) = box_muller(words[pair], words[pair + 1]);
        if index & 1 == 0 { cosine } else { sine }
    }

    /// A whole number in `0..n`, each exactly as likely as any other.
    ///
    /// # Panics
    /// When `n` is 0.
    ///
    /// # Reference
    /// Lemire, "Fast random integer generation in an interval", ACM TOMACS 29(1), 2019.
    #[track_caller]
    pub fn below(&self, index: u64, n: u64) -> u64 {
        assert!(n > 0, "there is no number below 0");
        // the products whose low half is under 2^64 mod n would make some results likelier
        let reject_under = n.wrapping_neg() % n;
        for attempt in 0.. {
            let [a, b, c, d] = self.block(index, attempt);
            for word in [join(a, b), join(c, d)] {
                let product = u128::from(word) * u128::from(n);
                if product as u64 >= reject_under {
                    return (product >> 64) as u64;
                }
            }
        }
        unreachable!("a draw is refused with a chance under one half")
    }

    /// Fills `out` with [`uniform_f32`](Self::uniform_f32) of `0..out.len()`.
    pub fn fill_uniform(&self, out: &mut [f32]) {
        for (index, four) in (0..).zip(out.chunks_mut(4)) {
            for (value, word) in four.iter_mut().zip(self.at(index)) {
                *value = unit_f32(word);
            }
        }
    }

    /// Fills `out` with [`normal_f32`](Self::normal_f32) of `0..out.len()`.
    pub fn fill_normal(&self, out: &mut [f32]) {
        for (index, four) in (0..).zip(out.chunks_mut(4)) {
            let [a, b, c, d] = self.at(index);
            let (first, second) = box_muller(a, b);
            let (third, fourth) = box_muller(c, d);
            for (value, normal) in four.iter_mut().zip([first, second, third, fourth]) {
                *value = normal as f32;
            }
        }
    }

    /// Puts `items` into an order drawn from all orders alike (Fisher and Yates).
    pub fn shuffle<T>(&self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let chosen = self.below(last as u64, last as u64 + 1);
            items.swap(last, chosen as usize);
        }
    }

    #[inline]
    fn block(&self, index: u64, attempt: u32) -> Block {
        let [low, high] = halves(index);
        philox([low, high, self.upper[0].wrapping_add(attempt), self.upper[1]], self.key)
    }
}

const DERIVE: u32 = 0x7068_616c;

const MULTIPLIERS: [u64; 2] = [0xD251_1F53, 0xCD9E_8D57];
const KEY_STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

#[inline]
fn philox(mut counter: Block, mut key: [u32; 2]) -> Block {
    for _ in 0..ROUNDS {
        let [low_0, high_0] = halves(MULTIPLIERS[0] * u64::from(counter[0]));
        let [low_1, high_1] = halves(MULTIPLIERS[1] * u64::from(counter[2]));
        counter = [high_1 ^ counter[1] ^ key[0], low_1, high_0 ^ counter[3] ^ key[1], low_0];
        key = [key[0].wrapping_add(KEY_STEPS[0]), key[1].wrapping_add(KEY_STEPS[1])];
    }
    counter
}

/// Two normals from two words; the half keeps the logarithm's argument above 0.
fn box_muller(radius: u32, angle: u32) -> (f64, f64) {
    const SCALE: f64 = 1.0 / 4_294_967_296.0;
    let radius = (-2.0 * ((f64::from(radius) + 0.5) * SCALE).ln()).sqrt();
    let (sine, cosine) = (std::f64::consts::TAU * (f64::from(angle) * SCALE)).sin_cos();
    (radius * cosine, radius * sine)
}

#[inline]
fn unit_f32(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

#[inline]
fn lane(index: u64) -> usize {
    (index & 3) as usize
}

#[inline]
fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

#[inline]
fn join(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

#[cfg(test)]
mod tests {
    use super::{Purpose, Stream, philox};

    /// The three vectors `philox4x32 10` of the Random123 distribution (`tests/kat_vectors`).
    #[test]
    fn known_answers() {
        let zero = philox([0; 4], [0; 2]);
        assert_eq!(zero, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = philox([u32::MAX; 4], [u32::MAX; 2]);
        assert_eq!(ones, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        // the digits of pi
        let pi = philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]);
        assert_eq!(pi, [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    /// Stored runs rest on these numbers; none of seed, purpose, step and index may be lost on the way.
    #[test]
    fn every_part_of_the_name_matters() {
        let base = Stream::new(1, Purpose::Shuffle, 2).at(3);
        let others = [
            Stream::new(2, Purpose::Shuffle, 2).at(3),
            Stream::new(1 << 32 | 1, Purpose::Shuffle, 2).at(3),
            Stream::new(1, Purpose::Split, 2).at(3),
            Stream::new(1, Purpose::User(1), 2).at(3),
            Stream::new(1, Purpose::Shuffle, 3).at(3),
            Stream::new(1, Purpose::Shuffle, 1 << 32 | 2).at(3),
            Stream::new(1, Purpose::Shuffle, 2).at(4),
            Stream::new(1, Purpose::Shuffle, 2).at(1 << 32 | 3),
        ];
        for other in others {
            // no word in common: a chance of 8 * 4 / 2^32 to fail by accident, fixed by the seeds
            assert!(base.iter().zip(other).all(|(a, b)| *a != b), "{base:x?} {other:x?}");
        }
    }

    #[test]
    fn purposes_have_distinct_codes() {
        use Purpose::{Attack, Dropout, Init, Noise, Shuffle, Split, User};
        let codes =
            [Init, Shuffle, Split, Dropout, Attack, Noise, User(0), User(u16::MAX)].map(Purpose::code);
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 0x1_0000, 0x1_ffff]);
    }

    #[test]
    fn filling_is_the_same_as_drawing_one_by_one() {
        let stream = Stream::new(9, Purpose::Dropout, 0);
        for len in [0, 1, 3, 4, 5, 17] {
            let mut uniforms = vec![-1.0; len];
            stream.fill_uniform(&mut uniforms);
            let mut normals = vec![9.0; len];
            stream.fill_normal(&mut normals);
            for (index, (uniform, normal)) in (0..).zip(uniforms.into_iter().zip(normals)) {
                assert_eq!(uniform.to_bits(), stream.uniform_f32(index).to_bits());
                assert_eq!(normal.to_bits(), stream.normal_f32(index).to_bits());
            }
        }
    }

    /// Mean, variance and fourth moment of 2^18 draws against 1/2, 1/12, 1/80 and 0, 1, 3, within 4 standard errors.
    #[test]
    fn moments() {
        let stream = Stream::new(5, Purpose::Init, 0);
        let n = 1_u64 << 18;
        let moment = |draw: &dyn Fn(u64) -> f64, power: i32| {
            (0..n).map(|index| draw(index).powi(power)).sum::<f64>() / n as f64
        };
        let uniform = |index| f64::from(stream.uniform_f32(index)) - 0.5;
        let normal = |index| stream.normal_f64(index);
        let root = (n as f64).sqrt();
        assert!(moment(&uniform, 1).abs() < 4.0 * (1.0_f64 / 12.0).sqrt() / root);
        assert!((moment(&uniform, 2) - 1.0 / 12.0).abs() < 4.0 * (1.0_f64 / 180.0).sqrt() / root);
        assert!(moment(&normal, 1).abs() < 4.0 / root);
        assert!((moment(&normal, 2) - 1.0).abs() < 4.0 * 2.0_f64.sqrt() / root);
        assert!((moment(&normal, 4) - 3.0).abs() < 4.0 * 96.0_f64.sqrt() / root);
        // neighbours share a block: the pair of one Box-Muller step must not be correlated
        let product: f64 =
            (0..n / 2).map(|k| normal(2 * k) * normal(2 * k + 1)).sum::<f64>() / (n / 2) as f64;
        assert!(product.abs() < 4.0 * 2.0_f64.sqrt() / root);
    }

    #[test]
    fn uniforms_stay_under_one() {
        assert_eq!(super::unit_f32(u32::MAX), 1.0 - 1.0 / 16_777_216.0);
        assert_eq!(super::unit_f32(255), 0.0);
        // the largest radius, at an angle of 0
        assert!((super::box_muller(0, 0).0 - 6.763_7).abs() < 1e-3);
    }

    /// `3 * 2^62` values leave a quarter of all words to refuse. A plain remainder would favour the
    /// lowest third of the range, a product without refusal the multiples of 3.
    #[test]
    fn below_is_unbiased_where_many_words_are_refused() {
        let stream = Stream::new(11, Purpose::User(7), 0);
        let n = 3_u64 << 62;
        let draws = 30_000_u32;
        let mut thirds = [0_u32; 3];
        let mut remainders = [0_u32; 3];
        for index in 0..u64::from(draws) {
            let value = stream.below(index, n);
            assert!(value < n);
            thirds[(value >> 62) as usize] += 1;
            remainders[(value % 3) as usize] += 1;
        }
        // 4 standard deviations of a binomial count with p = 1/3
        let expected = f64::from(draws) / 3.0;
        let bound = 4.0 * (expected * 2.0 / 3.0).sqrt();
        for counts in [thirds, remainders] {
            assert!(counts.iter().all(|count| (f64::from(*count) - expected).abs() < bound), "{counts:?}");
        }
    }

    #[test]
    fn below_one_is_zero() {
        assert_eq!(Stream::new(0, Purpose::Split, 0).below(0, 1), 0);
    }

    #[test]
    #[should_panic(expected = "no number below 0")]
    fn below_zero_is_refused() {
        Stream::new(0, Purpose::Split, 0).below(0, 0);
    }

    /// All 24 orders of four items, each as often as the others: chi-square with 23 degrees of
    /// freedom stays under 49.7, the 0.999 quantile.
    #[test]
    fn every_order_is_as_likely() {
        let mut counts = std::collections::BTreeMap::new();
        let draws = 24_000;
        for step in 0..draws {
            let mut items = [0_u8, 1, 2, 3];
            Stream::new(3, Purpose::Shuffle, step).shuffle(&mut items);
            *counts.entry(items).or_insert(0_u32) += 1;
        }
        assert_eq!(counts.len(), 24);
        let chi_square: f64 =
            counts.values().map(|count| (f64::from(*count) - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi_square < 49.7, "{chi_square}");
    }
}
