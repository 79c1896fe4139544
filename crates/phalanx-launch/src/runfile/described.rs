//! The declaration of a kind of run file: its sections, in the order of the file.

use super::error::RunFileError;
use super::key::Key;
use super::raw::RawRun;
use super::registered::Registered;

/// A run, as meant: every key has its value, and the values fit together.
pub trait Described: Sized {
    /// The sections, with what each is for.
    const SECTIONS: &'static [(&'static str, &'static str)];

    /// Every key of the run file, in the order of the resolved file.
    fn keys() -> Vec<Key>;

    /// Resolves and checks every key. The kinds of `registered` are known besides the library's.
    ///
    /// # Errors
    /// A [`RunFileError`] that lists every problem of the file.
    fn read(raw: &RawRun, registered: &Registered) -> Result<Self, RunFileError>;

    /// The resolved run file: every key that applies, in one order, so that equal runs have equal text.
    fn to_toml(&self) -> String;
}

/// Declares a run: a head, with the keys above all sections, and the sections; `check` reports values that do not fit
/// together.
macro_rules! described {
    (
        $(#[doc = $run_doc:literal])*
        pub struct $Run:ident of $Parts:ident, $Head:ident, checked by $check:path {
            $( $(#[doc = $doc:literal])* $section:ident : $Section:ty, )*
        }
    ) => {
        $(#[doc = $run_doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $Run {
            /// Name of the run and of its directory.
            pub name: String,
            /// Seed of everything that is random.
            pub seed: u64,
            /// Attacks on the run.
            pub attack: $crate::aggregation::Attacks,
            $( $(#[doc = $doc])* pub $section: $Section, )*
        }

        /// The sections that could be read.
        pub(super) struct $Parts {
            pub(super) head: Option<$Head>,
            $( pub(super) $section: Option<$Section>, )*
        }

        impl $Parts {
            fn whole(self) -> Option<$Run> {
                let $Head { name, seed, attack } = self.head?;
                Some($Run { name, seed, attack, $( $section: self.$section?, )* })
            }
        }

        impl $crate::runfile::described::Described for $Run {
            const SECTIONS: &'static [(&'static str, &'static str)] =
                &[$( (stringify!($section), concat!($($doc),*)), )*];

            fn keys() -> Vec<$crate::runfile::Key> {
                let mut keys = Vec::new();
                <$Head as $crate::runfile::key::Group>::keys("", &mut keys);
                $( <$Section as $crate::runfile::key::Group>::keys(stringify!($section), &mut keys); )*
                keys
            }

            fn read(
                raw: &$crate::runfile::RawRun,
                registered: &$crate::runfile::Registered,
            ) -> Result<Self, $crate::runfile::RunFileError> {
                use $crate::runfile::reader::Reader;
                let raw = &raw.with_implied_optimizer();
                let all = Self::keys();
                let sections: Vec<&'static str> = Self::SECTIONS.iter().map(|(name, _)| *name).collect();
                let mut problems = Vec::new();
                let models = registered.own_models();
                let parts = $Parts {
                    head: Reader::new(raw, "", models, &mut problems).read_all(&all, &sections),
                    $( $section: Reader::new(raw, stringify!($section), models, &mut problems).read_all(&all, &[]), )*
                };
                $check(raw, &parts, &mut problems);
                match parts.whole() {
                    Some(run) if problems.is_empty() => Ok(run),
                    _ => Err($crate::runfile::RunFileError::new(raw.file(), problems)),
                }
            }

            fn to_toml(&self) -> String {
                use $crate::runfile::{key::Group as _, write::write_entries};
                let mut text = String::new();
                let mut entries = Vec::new();
                $Head { name: self.name.clone(), seed: self.seed, attack: self.attack.clone() }.write(&mut entries);
                write_entries(&mut text, &mut entries);
                $(
                    text += &format!("\n[{}]\n", stringify!($section));
                    self.$section.write(&mut entries);
                    write_entries(&mut text, &mut entries);
                )*
                text
            }
        }
    };
}
pub(crate) use described;
