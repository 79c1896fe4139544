//! The compiled kernels in this program, and which of them a device takes.

use flate2::read::GzDecoder;
use std::borrow::Cow;
use std::io::Read as _;

/// A compute capability.
pub(crate) type Capability = (u32, u32);

/// Bytes where a loader of machine code may read whole words.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

macro_rules! aligned {
    ($file:literal) => {{
        const FILE: &Aligned<[u8]> = &Aligned(*include_bytes!($file));
        &FILE.0
    }};
}

/// Machine code: runs on its capability and later ones of the same major number.
pub(crate) static CUBINS: [(&[u8], Capability); 3] = [
    (aligned!("../kernels/compiled/sm_80.cubin"), (8, 0)),
    (aligned!("../kernels/compiled/sm_90.cubin"), (9, 0)),
    (aligned!("../kernels/compiled/sm_100.cubin"), (10, 0)),
];

/// Packed text, which the driver compiles for its capability and all later ones. That of 9.0 is word for word that of 8.0:
/// `cargo xtask kernels` leaves it out for as long as it is.
pub(crate) static PTX: [(&[u8], Capability); 2] = [
    (include_bytes!("../kernels/compiled/compute_80.ptx.gz"), (8, 0)),
    (include_bytes!("../kernels/compiled/compute_100.ptx.gz"), (10, 0)),
];

/// PTX as the driver wants it, with a zero at its end.
pub(crate) fn unpacked(ptx: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    // what does not unpack is no PTX, and the driver says so
    GzDecoder::new(ptx).read_to_end(&mut text).unwrap_or_default();
    text.push(0);
    text
}

/// The CUDA whose drivers compile the PTX, which says `.version 8.8`.
pub(crate) const PTX_NEEDS: (u32, u32) = (12, 9);

/// What a device of this capability can take, the best first: machine code, then PTX from the newest to the oldest.
pub(crate) fn candidates(capability: Capability) -> impl Iterator<Item = Cow<'static, [u8]>> {
    let cubins = CUBINS.iter().filter(move |(_, of)| of.0 == capability.0 && of.1 <= capability.1);
    let ptx = PTX.iter().rev().filter(move |(_, of)| *of <= capability);
    let cubins = cubins.map(|(image, _)| Cow::Borrowed(*image));
    cubins.chain(ptx.map(|(image, _)| Cow::Owned(unpacked(image))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(capability: Capability) -> Vec<Capability> {
        let ptx = PTX.map(|(image, of)| (unpacked(image), of));
        let all: Vec<(&[u8], Capability)> =
            CUBINS.into_iter().chain(ptx.iter().map(|(text, of)| (&text[..], *of))).collect();
        let of = |image: &[u8]| all.iter().find(|(held, _)| *held == image).map(|(_, of)| *of);
        candidates(capability).map(|image| of(&image).expect("one of ours")).collect()
    }

    #[test]
    fn machine_code_comes_first_and_nothing_newer_than_the_device() {
        assert_eq!(chosen((8, 9)), [(8, 0), (8, 0)]);
        assert_eq!(chosen((9, 0)), [(9, 0), (8, 0)]);
        assert_eq!(chosen((12, 0)), [(10, 0), (8, 0)]);
        assert_eq!(chosen((7, 5)), []);
    }

    #[test]
    fn machine_code_is_an_aligned_image() {
        for (cubin, of) in &CUBINS {
            assert!(cubin.starts_with(b"\x7fELF") && cubin.as_ptr().addr().is_multiple_of(64), "{of:?}");
        }
    }

    #[test]
    fn the_ptx_is_of_the_version_that_messages_name() {
        for (ptx, of) in PTX {
            let text = String::from_utf8(unpacked(ptx)).expect("PTX is text");
            assert!(text.contains("\n.version 8.8\n"), "{of:?}");
            assert!(text.contains(&format!("\n.target sm_{}{}\n", of.0, of.1)), "{of:?}");
        }
    }
}
