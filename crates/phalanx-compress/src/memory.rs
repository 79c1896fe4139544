//! What a rank has not sent yet, bucket by bucket.

use crate::compressor::BucketLayout;
use std::ops::Range;

/// A flat buffer, one element a gradient element, cut as the buckets are.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    flat: Vec<f32>,
    buckets: Vec<Range<usize>>,
}

impl Memory {
    /// Nothing owed.
    pub(crate) fn new(buckets: &[BucketLayout]) -> Self {
        let mut end = 0;
        let mut ranges = Vec::with_capacity(buckets.len());
        for bucket in buckets {
            ranges.push(end..end + bucket.len);
            end += bucket.len;
        }
        Self { flat: vec![0.0; end], buckets: ranges }
    }

    pub(crate) fn bucket(&mut self, bucket: usize) -> &mut [f32] {
        &mut self.flat[self.buckets[bucket].clone()]
    }

    pub(crate) fn all(&self) -> &[f32] {
        &self.flat
    }

    pub(crate) fn all_mut(&mut self) -> &mut [f32] {
        &mut self.flat
    }
}
