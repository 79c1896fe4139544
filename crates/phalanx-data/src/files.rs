//! Reading files, packed by gzip or not, by stated lengths that are not believed before the bytes arrive.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::error::DataError;

/// The most bytes that one file may unpack to.
pub(crate) const MAX_BYTES: u64 = 16 << 30;

/// A file being read, with its name and the place reached for messages.
pub(crate) struct Input<R> {
    file: PathBuf,
    reader: R,
    offset: u64,
}

/// Opens `file`; what starts with gzip's magic number is unpacked, whatever its name.
pub(crate) fn open(file: &Path) -> Result<Input<Box<dyn Read>>, DataError> {
    let failed = |source| DataError::Read { file: file.to_path_buf(), source };
    let opened = File::open(file).map_err(failed)?;
    let reader = unpacked(BufReader::with_capacity(1 << 16, opened)).map_err(failed)?;
    Ok(Input::new(reader, file))
}

/// `reader`, unpacked if it is packed.
pub(crate) fn unpacked<'a>(mut reader: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    if reader.fill_buf()?.starts_with(&GZIP) {
        Ok(Box::new(MultiGzDecoder::new(reader)))
    } else {
        Ok(Box::new(reader))
    }
}

impl<R: Read> Input<R> {
    pub(crate) fn new(reader: R, file: &Path) -> Self {
        Self { file: file.to_path_buf(), reader, offset: 0 }
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// The next `N` bytes, named `field` if they are missing.
    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DataError> {
        let mut bytes = [0; N];
        let got = self.up_to(&mut bytes)?;
        if got < N {
            return Err(self.truncated(field, got as u64, N as u64));
        }
        self.offset += N as u64;
        Ok(bytes)
    }

    /// The next `need` bytes. Memory grows with what arrives, not with what was promised.
    pub(crate) fn bytes(&mut self, field: &'static str, need: u64) -> Result<Vec<u8>, DataError> {
        if need > MAX_BYTES {
            return Err(self.too_large(field, need, MAX_BYTES));
        }
        // enough for most files to be read without growing, little enough to lose on a lie
        let mut bytes = Vec::with_capacity(need.min(1 << 26) as usize);
        let got = (&mut self.reader).take(need).read_to_end(&mut bytes);
        let got = got.map_err(|source| self.failed(source))? as u64;
        if got < need {
            return Err(self.truncated(field, got, need));
        }
        bytes.shrink_to_fit();
        self.offset += need;
        Ok(bytes)
    }

    /// All the rest.
    pub(crate) fn rest(&mut self, field: &'static str) -> Result<Vec<u8>, DataError> {
        let mut bytes = Vec::new();
        let got = (&mut self.reader).take(MAX_BYTES + 1).read_to_end(&mut bytes);
        let got = got.map_err(|source| self.failed(source))? as u64;
        if got > MAX_BYTES {
            return Err(self.too_large(field, got, MAX_BYTES));
        }
        self.offset += got;
        Ok(bytes)
    }

    /// Checks that nothing follows; in a gzip file this checks the checksum too.
    pub(crate) fn end(&mut self) -> Result<(), DataError> {
        match self.up_to(&mut [0])? {
            0 => Ok(()),
            _ => Err(DataError::Trailing { file: self.file.clone(), offset: self.offset }),
        }
    }

    pub(crate) fn too_large(&self, field: &'static str, got: u64, limit: u64) -> DataError {
        DataError::TooLarge { file: self.file.clone(), field, got, limit }
    }

    fn truncated(&self, field: &'static str, got: u64, need: u64) -> DataError {
        DataError::Truncated { file: self.file.clone(), field, offset: self.offset, got, need }
    }

    fn failed(&self, source: io::Error) -> DataError {
        DataError::Read { file: self.file.clone(), source }
    }

    /// Fills `bytes` as far as the file goes; the number filled.
    fn up_to(&mut self, bytes: &mut [u8]) -> Result<usize, DataError> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.reader.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.failed(source)),
            }
        }
        Ok(filled)
    }
}
