//! Where the data of a run are: `data.path` as a path, or as the name of a fetched data set.

use std::path::{Path, PathBuf};

use phalanx_data::fetch::SETS;

use crate::environment::{self, Lookup};
use crate::runfile::{Source, nearest};
use crate::usage::UsageError;

/// Where a system's package puts data sets.
const SYSTEM: &str = "/usr/share/datasets";

/// Finds the file or folder of a data source; `None` for digits, which the program carries.
///
/// A path is taken as it is if something lies there. A plain name is also looked for in
/// `$PHALANX_DATA` (else `data/`) and where a system's package puts data sets. For text, a folder
/// `NAME` stands for `NAME/NAME.txt`.
///
/// # Errors
/// [`UsageError::NoData`] with every place that was tried and the command that fetches the data.
pub fn locate(source: &Source) -> Result<Option<PathBuf>, UsageError> {
    locate_in(source, &environment::lookup, Path::new(SYSTEM))
}

/// The directory into which data sets are fetched.
#[must_use]
pub fn home() -> PathBuf {
    environment::data_dir(&environment::lookup)
}

fn locate_in(source: &Source, lookup: Lookup<'_>, system: &Path) -> Result<Option<PathBuf>, UsageError> {
    let (path, is_text) = match source {
        Source::Digits { .. } => return Ok(None),
        Source::Idx { path, .. } | Source::Csv { path, .. } => (path, false),
        Source::Text { path, .. } => (path, true),
    };
    let inside = |found: PathBuf| {
        let text = found.join(path).with_extension("txt");
        if is_text && found.is_dir() { text } else { found }
    };
    let tried = places(path, lookup, system);
    match tried.iter().cloned().map(inside).find(|place| place.exists()) {
        Some(found) => Ok(Some(found)),
        None => {
            let name = nearest(path, SETS.map(|set| set.name)).map(str::to_owned);
            Err(UsageError::NoData { path: path.clone(), at: tried, name })
        }
    }
}

fn places(path: &str, lookup: Lookup<'_>, system: &Path) -> Vec<PathBuf> {
    let as_path = PathBuf::from(path);
    let is_name = as_path.file_name().is_some_and(|name| name == path);
    let mut places = vec![as_path];
    if is_name {
        places.extend([environment::data_dir(lookup).join(path), system.join(path)]);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::locate_in;
    use crate::runfile::Source;
    use std::fs;
    use std::path::Path;

    fn idx(path: &str) -> Source {
        Source::Idx { path: path.to_owned(), mean: None, std: None }
    }

    fn text(path: &str) -> Source {
        Source::Text { path: path.to_owned(), split: 0.9, context: None }
    }

    #[test]
    fn names_are_looked_for_at_home_then_in_the_system() {
        let dir = tempfile::tempdir().expect("a directory");
        let (home, system) = (dir.path().join("home"), dir.path().join("system"));
        fs::create_dir_all(system.join("fashion-mnist")).expect("a directory");
        let lookup = |name: &str| (name == "PHALANX_DATA").then(|| home.display().to_string());
        let found = |source: &Source| locate_in(source, &lookup, &system).ok().flatten();

        assert_eq!(found(&idx("fashion-mnist")), Some(system.join("fashion-mnist")));
        fs::create_dir_all(home.join("fashion-mnist")).expect("a directory");
        assert_eq!(found(&idx("fashion-mnist")), Some(home.join("fashion-mnist")));

        fs::create_dir_all(home.join("shakespeare")).expect("a directory");
        assert_eq!(found(&text("shakespeare")), None);
        fs::write(home.join("shakespeare/shakespeare.txt"), "words").expect("a file");
        assert_eq!(found(&text("shakespeare")), Some(home.join("shakespeare/shakespeare.txt")));
    }

    #[test]
    fn missing_data_say_where_and_how() {
        let lookup = |_: &str| None;
        let error = |source: &Source| {
            locate_in(source, &lookup, Path::new("/none")).expect_err("nothing there").to_string()
        };
        assert_eq!(
            error(&idx("fashion_mnist")),
            "data \"fashion_mnist\" not found, looked at fashion_mnist, data/fashion_mnist, \
             /none/fashion_mnist; `phalanx data fetch fashion-mnist` brings fashion-mnist"
        );
        assert_eq!(error(&text("my/novel.txt")), "data \"my/novel.txt\" not found, looked at my/novel.txt");
    }
}
