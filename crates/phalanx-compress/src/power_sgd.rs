//! Matrices travel as two thin factors; what the factors miss is remembered and added to the next gradient.
//!
//! Shapes: a matrix has `n` rows and `m` columns; `p_rn` holds the `r` columns of `P` one after the other, `q_rm` those of `Q`.

use crate::compressor::{BucketLayout, Compressor, Matrix, Traffic};
use crate::error::CompressError;
use crate::memory::Memory;
use phalanx_comm::{CommError, Communicator, Pending, ReduceOp, Region};
use phalanx_grad::{StateData, StateTensor};
use phalanx_tensor::rng::{Purpose, Stream};
use std::ops::Range;
use std::sync::Arc;

/// One step of power iteration on each matrix of the gradient, warm from the step before.
///
/// ```text
/// M_r = E_r + G_r                     what this rank owes of the matrix, [out, rest]
/// P   = orthonormal(sum of M_r Q)     first all-reduce
/// E_r = M_r - P P' M_r                what the factors miss stays here
/// Q   = sum of M_r' P                 second all-reduce; the start of the next step
/// G   = P Q'
/// ```
///
/// Over any number of steps, what was applied and what all ranks remember add up to the sum of their gradients, up to
/// rounding. Vectors, and matrices whose factors have as many elements as they, travel as they are, with the factors
/// `P` of their bucket.
///
/// # Shapes
/// A rank sends `r (n + m)` of `n m` elements of a matrix, in two messages a bucket: the first while the backward pass still
/// runs, the second after it. `r` is at most `n` and `m`.
///
/// # Numerics
/// In `f32`. Columns of `P` are made orthonormal by modified Gram-Schmidt: a column is divided by its length plus 1e-6 of
/// the length of the whole `P`, so that what rounding leaves of a column that depends on the others stays small. The columns
/// of `Q` are brought to length 1 before they are used, which changes `P` by a factor only. A column of zeros, as all are at
/// first, is drawn from the normal distribution by (seed, step, place).
///
/// # Reference
/// Vogels, Karimireddy and Jaggi, "`PowerSGD`: practical low-rank gradient compression for distributed optimization",
/// `NeurIPS` 2019, algorithm 1 with the error feedback of algorithm 2.
///
/// # Deviation
/// The paper's code adds an absolute 1e-8 to the length of a column and does not scale `Q`; gradients of 1e-5 would then
/// lose a part of every column. A column that became zero is drawn anew.
#[derive(Debug)]
pub struct PowerSgd {
    rank: usize,
    seed: u64,
    memory: Memory,
    slots: Vec<Slot>,
    sent_bytes: u64,
}

/// One bucket.
#[derive(Debug)]
struct Slot {
    comm: Arc<dyn Communicator>,
    factors: Vec<Factors>,
    /// What travels as it is.
    plain: Vec<Range<usize>>,
    /// All `P` one after the other, then what is plain.
    first: Region<f32>,
    /// All `Q`; kept from step to step.
    second: Region<f32>,
    part: Region<f32>,
    flight: Option<Pending>,
}

/// Where a matrix and its factors are.
#[derive(Clone, Debug)]
struct Factors {
    n: usize,
    m: usize,
    /// In the bucket.
    matrix: Range<usize>,
    /// In `first`.
    p: Range<usize>,
    /// In `second`.
    q: Range<usize>,
    /// The place of its first element among those of all `Q`.
    draws: u64,
}

impl PowerSgd {
    /// Factors of `rank` columns.
    ///
    /// # Errors
    /// [`CompressError::Setting`] for no columns.
    #[expect(clippy::cast_precision_loss, reason = "only 0 is refused")]
    pub fn new(rank: usize, seed: u64) -> Result<Self, CompressError> {
        if rank == 0 {
            let need = "at least 1";
            return Err(CompressError::Setting { field: "compression.rank", got: rank as f64, need });
        }
        Ok(Self { rank, seed, memory: Memory::default(), slots: Vec::new(), sent_bytes: 0 })
    }

    /// The factors of the matrices that they make smaller.
    fn factors(&self, bucket: &BucketLayout, draws: &mut u64) -> Vec<Factors> {
        let (mut p_end, mut q_end) = (0, 0);
        let mut factors = Vec::new();
        for &Matrix { offset, rows: n, cols: m } in &bucket.matrices {
            let r = self.rank.min(n).min(m);
            if r * (n + m) >= n * m {
                continue;
            }
            let (p, q) = (p_end..p_end + r * n, q_end..q_end + r * m);
            (p_end, q_end) = (p.end, q.end);
            factors.push(Factors { n, m, matrix: offset..offset + n * m, p, q, draws: *draws });
            *draws += (r * m) as u64;
        }
        factors
    }
}

impl Compressor for PowerSgd {
    fn name(&self) -> &'static str {
        "powersgd"
    }

    fn prepare(&mut self, comm: &Arc<dyn Communicator>, buckets: &[BucketLayout]) -> Result<(), CommError> {
        self.memory = Memory::new(buckets);
        let mut draws = 0;
        let slot = |bucket: &BucketLayout| {
            let factors = self.factors(bucket, &mut draws);
            let plain = gaps(&factors, bucket.len);
            let p_len: usize = factors.iter().map(|f| f.p.len()).sum();
            let first = comm.alloc(p_len + plain.iter().map(Range::len).sum::<usize>())?;
            let second = comm.alloc(factors.iter().map(|f| f.q.len()).sum())?;
            let (comm, part) = (Arc::clone(comm), Region::default());
            Ok(Slot { comm, factors, plain, first, second, part, flight: None })
        };
        self.slots = buckets.iter().map(slot).collect::<Result<_, CommError>>()?;
        Ok(())
    }

    fn start(&mut self, step: u64, bucket: usize, part: Region<f32>) -> Result<(), CommError> {
        if bucket == 0 {
            self.sent_bytes = 0;
        }
        let slot = &mut self.slots[bucket];
        let owed = self.memory.bucket(bucket);
        let mut first = std::mem::take(&mut slot.first);
        let stream = Stream::new(self.seed, Purpose::Compression, step);
        for f in &slot.factors {
            let owed_nm = &mut owed[f.matrix.clone()];
            owed_nm.iter_mut().zip(&part[f.matrix.clone()]).for_each(|(owed, new)| *owed += new);
            let q_rm = &mut slot.second[f.q.clone()];
            begin(q_rm, f, &stream);
            times(owed_nm, q_rm, f, &mut first[f.p.clone()]);
        }
        let mut at = slot.factors.last().map_or(0, |f| f.p.end);
        for range in &slot.plain {
            first[at..at + range.len()].copy_from_slice(&part[range.clone()]);
            at += range.len();
        }
        self.sent_bytes += (size_of_val(&*first) + size_of_val(&*slot.second)) as u64;
        slot.part = part;
        slot.flight = Some(slot.comm.start_all_reduce(first, ReduceOp::Sum)?);
        Ok(())
    }

    fn finish(&mut self, parts: &mut [Region<f32>]) -> Result<(), CommError> {
        for (bucket, slot) in self.slots.iter_mut().enumerate() {
            let Some(flight) = slot.flight.take() else { continue };
            slot.first = flight.wait()?;
            let mut second = std::mem::take(&mut slot.second);
            let owed = self.memory.bucket(bucket);
            for f in &slot.factors {
                let p_rn = &mut slot.first[f.p.clone()];
                orthonormalise(p_rn, f.n);
                let (owed_nm, q_rm) = (&mut owed[f.matrix.clone()], &mut second[f.q.clone()]);
                transposed_times(owed_nm, p_rn, f, q_rm);
                subtract_product(owed_nm, p_rn, q_rm, f);
            }
            slot.flight = Some(slot.comm.start_all_reduce(second, ReduceOp::Sum)?);
        }
        for (slot, whole) in self.slots.iter_mut().zip(parts) {
            let Some(flight) = slot.flight.take() else { continue };
            slot.second = flight.wait()?;
            let mut part = std::mem::take(&mut slot.part);
            for f in &slot.factors {
                let product_nm = &mut part[f.matrix.clone()];
                product_nm.fill(0.0);
                add_product(product_nm, &slot.first[f.p.clone()], &slot.second[f.q.clone()], f);
            }
            let mut at = slot.factors.last().map_or(0, |f| f.p.end);
            for range in &slot.plain {
                part[range.clone()].copy_from_slice(&slot.first[at..at + range.len()]);
                at += range.len();
            }
            *whole = part;
        }
        Ok(())
    }

    fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    fn traffic(&self, bucket: &BucketLayout) -> Traffic {
        let factors = self.factors(bucket, &mut 0);
        let plain: usize = gaps(&factors, bucket.len).iter().map(Range::len).sum();
        let (p, q) = factors.iter().fold((plain, 0), |(p, q), f| (p + f.p.len(), q + f.q.len()));
        let bytes = |len: usize| (len * size_of::<f32>()) as u64;
        Traffic { overlapped: bytes(p), afterwards: bytes(q), gathered: 0 }
    }

    fn memory(&self) -> &[f32] {
        self.memory.all()
    }

    fn memory_mut(&mut self) -> &mut [f32] {
        self.memory.all_mut()
    }

    fn state(&self) -> Vec<StateTensor> {
        let all: Vec<f32> = self.slots.iter().flat_map(|slot| slot.second.iter().copied()).collect();
        vec![StateTensor { name: Q.to_owned(), data: StateData::F32(all) }]
    }

    fn restore(&mut self, state: &[StateTensor]) -> Result<(), CompressError> {
        let need = self.slots.iter().map(|slot| slot.second.len()).sum();
        let saved =
            state.iter().find(|tensor| tensor.name == Q).and_then(|tensor| tensor.data.elems::<f32>());
        let mut rest = saved.unwrap_or_default();
        if rest.len() != need {
            return Err(CompressError::State { what: "start of Q", got: rest.len(), need });
        }
        for slot in &mut self.slots {
            let (own, tail) = rest.split_at(slot.second.len());
            slot.second.copy_from_slice(own);
            rest = tail;
        }
        Ok(())
    }

    fn forget(&mut self) {
        self.memory.all_mut().fill(0.0);
        self.slots.iter_mut().for_each(|slot| slot.second.fill(0.0));
    }
}

/// The name of the second factors in a checkpoint.
const Q: &str = "q";

/// Share of the length of `P` that is added to that of each column.
const EPS: f32 = 1e-6;

/// What the matrices leave of a bucket.
fn gaps(factors: &[Factors], len: usize) -> Vec<Range<usize>> {
    let starts = std::iter::once(0).chain(factors.iter().map(|f| f.matrix.end));
    let ends = factors.iter().map(|f| f.matrix.start).chain(std::iter::once(len));
    starts.zip(ends).map(|(start, end)| start..end).filter(|gap| !gap.is_empty()).collect()
}

/// Brings the columns of `Q` to length 1, and draws those that have none.
fn begin(q_rm: &mut [f32], f: &Factors, stream: &Stream) {
    for (k, column) in (0_u64..).zip(q_rm.chunks_exact_mut(f.m)) {
        let length = dot(column, column).sqrt();
        if length > 0.0 && length.is_finite() {
            column.iter_mut().for_each(|x| *x /= length);
        } else {
            let start = f.draws + k * f.m as u64;
            (start..).zip(column).for_each(|(index, x)| *x = stream.normal_f32(index));
        }
    }
}

/// `P = M Q`
fn times(owed_nm: &[f32], q_rm: &[f32], f: &Factors, p_rn: &mut [f32]) {
    for (i, row) in owed_nm.chunks_exact(f.m).enumerate() {
        for (k, column) in q_rm.chunks_exact(f.m).enumerate() {
            p_rn[k * f.n + i] = dot(row, column);
        }
    }
}

/// `Q = M' P`
fn transposed_times(owed_nm: &[f32], p_rn: &[f32], f: &Factors, q_rm: &mut [f32]) {
    q_rm.fill(0.0);
    for (i, row) in owed_nm.chunks_exact(f.m).enumerate() {
        for (k, column) in q_rm.chunks_exact_mut(f.m).enumerate() {
            add_scaled(column, p_rn[k * f.n + i], row);
        }
    }
}

/// `M -= P Q'`
fn subtract_product(owed_nm: &mut [f32], p_rn: &[f32], q_rm: &[f32], f: &Factors) {
    for (i, row) in owed_nm.chunks_exact_mut(f.m).enumerate() {
        for (k, column) in q_rm.chunks_exact(f.m).enumerate() {
            add_scaled(row, -p_rn[k * f.n + i], column);
        }
    }
}

/// `M += P Q'`
fn add_product(product_nm: &mut [f32], p_rn: &[f32], q_rm: &[f32], f: &Factors) {
    for (i, row) in product_nm.chunks_exact_mut(f.m).enumerate() {
        for (k, column) in q_rm.chunks_exact(f.m).enumerate() {
            add_scaled(row, p_rn[k * f.n + i], column);
        }
    }
}

/// Modified Gram-Schmidt over the columns, of `n` elements each.
fn orthonormalise(p_rn: &mut [f32], n: usize) {
    let floor = EPS * dot(p_rn, p_rn).sqrt();
    if floor == 0.0 {
        return;
    }
    for k in 0..p_rn.len() / n {
        let (done, rest) = p_rn.split_at_mut((k + 1) * n);
        let column = &mut done[k * n..];
        let length = dot(column, column).sqrt() + floor;
        column.iter_mut().for_each(|x| *x /= length);
        for other in rest.chunks_exact_mut(n) {
            add_scaled(other, -dot(column, other), column);
        }
    }
}

/// Sums that are kept side by side, so that a vector register holds them.
const LANES: usize = 16;

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (blocks_a, tail_a) = a.as_chunks::<LANES>();
    let (blocks_b, tail_b) = b.as_chunks::<LANES>();
    for (a, b) in blocks_a.iter().zip(blocks_b) {
        lanes.iter_mut().zip(a).zip(b).for_each(|((lane, a), b)| *lane += a * b);
    }
    let tail: f32 = tail_a.iter().zip(tail_b).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + tail
}

fn add_scaled(to: &mut [f32], factor: f32, from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
}
