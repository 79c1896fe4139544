//! The few protobuf messages that scalars need, encoded by hand.

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// `Event { wall_time, file_version }`, the first of each file.
pub(super) fn version(out: &mut Vec<u8>, wall_time: f64) {
    head(out, wall_time, 0);
    bytes(out, 3, b"brain.Event:2");
}

/// `Event { wall_time, step, session_log { status: START } }`: events from `step` on are void.
pub(super) fn session_start(out: &mut Vec<u8>, wall_time: f64, step: u64) {
    head(out, wall_time, step);
    bytes(out, 7, &[8, 1]);
}

/// `Event { wall_time, step, summary { value { tag, simple_value } .. } }`.
pub(super) fn scalars(out: &mut Vec<u8>, wall_time: f64, step: u64, scalars: &[(&str, f64)]) {
    head(out, wall_time, step);
    let len = |tag: &str| value_len(tag) + varint_len(value_len(tag)) + 1;
    key(out, 5, BYTES);
    varint(out, scalars.iter().map(|(tag, _)| len(tag)).sum());
    for &(tag, value) in scalars {
        key(out, 1, BYTES);
        varint(out, value_len(tag));
        bytes(out, 1, tag.as_bytes());
        key(out, 2, FIXED32);
        out.extend((value as f32).to_le_bytes());
    }
}

/// Length of a `Summary.Value`: a tag, and four bytes of value behind a key.
fn value_len(tag: &str) -> u64 {
    let tag_len = tag.len() as u64;
    1 + varint_len(tag_len) + tag_len + 1 + 4
}

fn head(out: &mut Vec<u8>, wall_time: f64, step: u64) {
    key(out, 1, FIXED64);
    out.extend(wall_time.to_le_bytes());
    key(out, 2, VARINT);
    varint(out, step);
}

fn bytes(out: &mut Vec<u8>, field: u64, data: &[u8]) {
    key(out, field, BYTES);
    varint(out, data.len() as u64);
    out.extend(data);
}

fn key(out: &mut Vec<u8>, field: u64, wire_type: u64) {
    varint(out, field << 3 | wire_type);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f | 0x80) as u8);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_len(value: u64) -> u64 {
    u64::from((64 - (value | 1).leading_zeros()).div_ceil(7))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_have_seven_bits_a_byte() {
        for (value, need) in
            [(0, &[0][..]), (127, &[127]), (128, &[128, 1]), (300, &[172, 2]), (u64::MAX, &[255; 10])]
        {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(out.len() as u64, varint_len(value));
            assert_eq!(&out[..out.len() - 1], &need[..need.len() - 1]);
        }
    }

    /// As `protoc --encode` writes it: field, wire type and lengths worked by hand.
    #[test]
    fn a_scalar_is_encoded_as_the_schema_says() {
        let mut out = Vec::new();
        scalars(&mut out, 1.0, 5, &[("ab", 0.5)]);
        let mut need = vec![0x09];
        need.extend(1.0_f64.to_le_bytes());
        need.extend([0x10, 5, 0x2a, 11, 0x0a, 9, 0x0a, 2, b'a', b'b', 0x15]);
        need.extend(0.5_f32.to_le_bytes());
        assert_eq!(out, need);
    }
}
