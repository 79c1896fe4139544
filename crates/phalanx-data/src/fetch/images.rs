//! Sets of four files in MNIST's format.
//!
//! Checksums are of the unpacked files: packages and mirrors wrap the same bytes in different gzip headers.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::fetch::checksum::Checksum;
use crate::fetch::download::download;
use crate::fetch::error::FetchError;
use crate::fetch::part::Part;
use crate::fetch::{FetchOptions, Fetched, Origin, Progress, Set, base};

pub(crate) struct ImageSet {
    pub(crate) set: Set,
    /// SHA-256 of [`FILES`], in their order.
    sha256: [&'static str; 4],
}

/// Names without `.gz`, and unpacked lengths: MNIST's, which later sets kept.
const FILES: [(&str, u64); 4] = [
    ("train-images-idx3-ubyte.gz", 47_040_016),
    ("train-labels-idx1-ubyte.gz", 60_008),
    ("t10k-images-idx3-ubyte.gz", 7_840_016),
    ("t10k-labels-idx1-ubyte.gz", 10_008),
];

pub(crate) static FASHION_MNIST: ImageSet = ImageSet {
    set: Set {
        name: "fashion-mnist",
        about: "70,000 images of clothes, 28 x 28, 10 classes; 31 MB",
        licence: "Fashion-MNIST (Xiao, Rasul and Vollgraf, arXiv:1708.07747)\n\
                  Copyright (c) 2017 Zalando SE, https://tech.zalando.com\n\
                  MIT licence: https://github.com/zalandoresearch/fashion-mnist/blob/master/LICENSE\n",
        base: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    },
    sha256: [
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ],
};

pub(crate) static MNIST: ImageSet = ImageSet {
    set: Set {
        name: "mnist",
        about: "70,000 images of handwritten digits, 28 x 28, 10 classes; 12 MB",
        licence: "MNIST (LeCun, Cortes and Burges), made from NIST's Special Databases 1 and 3.\n\
                  Its authors publish it without a licence text; it is commonly taken to be under\n\
                  CC BY-SA 3.0. Check whether that suits your use.\n",
        base: "https://ossci-datasets.s3.amazonaws.com/mnist",
    },
    sha256: [
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ],
};

pub(crate) fn fetch(
    set: &ImageSet,
    folder: PathBuf,
    options: &FetchOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Fetched, FetchError> {
    let mut origin = Origin::Present;
    let base = base(&set.set, options);
    let installed = options.installed.join(set.set.name);
    for ((name, len), sha256) in FILES.into_iter().zip(set.sha256) {
        let (to, checksum) = (folder.join(name), Checksum::Gunzipped { len, sha256 });
        if to.is_file() && is_right(&to, checksum)? {
            continue;
        }
        if options.mirror.is_none() && copy(&installed.join(name), &to, checksum, progress)? {
            origin = Origin::Installed(installed.clone());
            continue;
        }
        download(&format!("{base}/{name}"), &to, checksum, options, progress)?;
        origin = Origin::Downloaded(base.clone());
    }
    Ok(Fetched { path: folder, origin, licence: set.set.licence })
}

fn is_right(file: &Path, checksum: Checksum) -> Result<bool, FetchError> {
    let io = |source| FetchError::Io { doing: "read", file: file.to_path_buf(), source };
    Ok(checksum.mismatch(file).map_err(io)?.is_none())
}

/// Copies an installed file; whether there was one with the right checksum.
fn copy(
    from: &Path,
    to: &Path,
    checksum: Checksum,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<bool, FetchError> {
    if !from.is_file() {
        return Ok(false);
    }
    if !is_right(from, checksum)? {
        tracing::warn!(file = %from.display(), "installed file has another checksum: downloading");
        return Ok(false);
    }
    let io = |source| FetchError::Io { doing: "read", file: from.to_path_buf(), source };
    let mut bytes = Vec::new();
    File::open(from).and_then(|file| file.take(checksum.most_bytes()).read_to_end(&mut bytes)).map_err(io)?;
    let part = Part::create(to)?;
    part.append(&bytes)?;
    if let Some(got) = checksum.mismatch(part.path()).map_err(part.io("read"))? {
        part.remove()?;
        let source =
            io::Error::new(io::ErrorKind::InvalidData, format!("changed while it was copied, now {got}"));
        return Err(FetchError::Io { doing: "copy", file: from.to_path_buf(), source });
    }
    part.finish()?;
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let done = bytes.len() as u64;
    progress(Progress { file: &name, done, total: Some(done) });
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::copy;
    use crate::fetch::checksum::Checksum;

    #[test]
    fn only_a_right_file_is_copied() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("installed"), folder.path().join("copy"));
        // of the three bytes "abc" (FIPS 180-2, B.1)
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let checksum = Checksum::Plain { len: 3, sha256 };
        assert!(!copy(&from, &to, checksum, &mut |_| {}).unwrap());
        for wrong in ["abd", "ab", "abca"] {
            fs::write(&from, wrong).unwrap();
            assert!(!copy(&from, &to, checksum, &mut |_| {}).unwrap());
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::write(&from, "abc").unwrap();
        let mut seen = Vec::new();
        assert!(copy(&from, &to, checksum, &mut |progress| seen.push(progress.done)).unwrap());
        assert_eq!((fs::read(&to).unwrap(), seen), (b"abc".to_vec(), vec![3]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
