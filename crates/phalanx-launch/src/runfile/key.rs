//! The declaration of keys: one place from which the types, the reader, the writer, the list of
//! keys and the documentation come.
//!
//! [`keys!`] declares a struct whose fields are keys, [`kinds!`] an enum whose variants are the
//! kinds of a section, each with keys of its own, and [`names!`] a value that is one of several
//! words.

use super::range::Range;
use super::reader::Reader;
use toml::Value as Toml;

/// One key of the run file.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Its section; empty for the keys above all sections.
    pub section: &'static str,
    /// Its name in the section.
    pub name: &'static str,
    /// The kind of the section that takes it; `None` if all do.
    pub kind: Option<&'static str>,
    /// What it means, in one or two sentences.
    pub doc: &'static str,
    /// Its unit; empty if it has none.
    pub unit: &'static str,
    /// The type and the range of its values.
    pub need: String,
    /// The range of its numbers.
    pub range: Range,
    /// What it is when not given.
    pub default: KeyDefault,
    /// Whether a resumed run may change it.
    pub resume: Resume,
}

/// What a key is when not given.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum KeyDefault {
    /// It must be given.
    Required,
    /// Nothing; the doc of the key says what that means.
    Unset,
    /// This value.
    Value(Toml),
}

/// Whether a resumed run may change a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resume {
    /// It decides where, how long or how loudly a run goes, not what it computes.
    May,
    /// The run would not be the same.
    Fixed,
}

impl Key {
    /// `section.name`, as `--set` takes it.
    #[must_use]
    pub fn path(&self) -> String {
        path(self.section, self.name)
    }
}

/// A group of keys that stand in one table of the file.
pub(crate) trait Group: Sized {
    /// Appends its keys; `section` is the table in which they stand.
    fn keys(section: &'static str, out: &mut Vec<Key>);

    /// Reads all its keys; `None` after at least one problem was reported.
    fn read(reader: &mut Reader<'_>) -> Option<Self>;

    /// Appends its keys with their values, those that are not given left out.
    fn write(&self, out: &mut Vec<(String, Toml)>);
}

/// Path of a key, or of the section itself for an empty name.
pub(crate) fn path(section: &str, name: &str) -> String {
    let dot = if section.is_empty() || name.is_empty() { "" } else { "." };
    format!("{section}{dot}{name}")
}

/// "an integer, at least 1", "\"a\" or \"b\"".
pub(crate) fn need<T: super::Value>(range: Range) -> String {
    let expects = T::expects();
    match range {
        Range::Any => expects,
        bounded => format!("{expects}, {bounded}"),
    }
}

/// Declares a struct of keys: `name: Type = default, "unit", Range, Resume;`, then any groups that
/// share the table after `..`. Without a default a key must be given, unless it is an `Option`.
macro_rules! keys {
    (
        $(#[$struct_meta:meta])*
        $vis:vis struct $Struct:ident {
            $( $(#[doc = $doc:literal])* $field:ident : $ty:ty $(= $default:expr)?, $unit:literal, $range:expr, $resume:ident; )*
            $( .. $(#[doc = $group_doc:literal])* $group:ident : $Group:ty )?
        }
    ) => {
        $(#[$struct_meta])*
        #[derive(Debug, Clone, PartialEq)]
        $vis struct $Struct {
            $( $(#[doc = $group_doc])* $vis $group: $Group, )?
            $( $(#[doc = $doc])* $vis $field: $ty, )*
        }

        impl $crate::runfile::key::Group for $Struct {
            fn keys(section: &'static str, out: &mut Vec<$crate::runfile::Key>) {
                let _ = &section;
                $( <$Group as $crate::runfile::key::Group>::keys(section, out); )?
                $( out.push($crate::runfile::key::one_key!(section, None, $field, $ty, [$($default)?], $unit, $range, $resume, concat!($($doc),*))); )*
            }

            fn read(reader: &mut $crate::runfile::reader::Reader<'_>) -> Option<Self> {
                $( let $group = <$Group as $crate::runfile::key::Group>::read(reader); )?
                $( let $field = reader.value::<$ty>(stringify!($field), $range, None $(.or(Some($default)))?); )*
                Some(Self { $( $group: $group?, )? $( $field: $field?, )* })
            }

            fn write(&self, out: &mut Vec<(String, ::toml::Value)>) {
                $( self.$group.write(out); )?
                $( out.extend($crate::runfile::Value::write(&self.$field).map(|toml| (stringify!($field).to_owned(), toml))); )*
            }
        }
    };
}

/// Declares an enum of kinds, told apart by the key after `by`. `.. Registered` at the end adds a
/// variant for kinds that the program registers, whose keys are free.
macro_rules! kinds {
    (
        $(#[doc = $enum_doc:literal])*
        pub enum $Enum:ident by $tag:ident $(= $default_kind:literal)? {
            $(
                $(#[doc = $kind_doc:literal])*
                $kind:literal => $Variant:ident {
                    $( $(#[doc = $doc:literal])* $field:ident : $ty:ty $(= $default:expr)?, $unit:literal, $range:expr, $resume:ident; )*
                }
            )*
            $( .. $(#[doc = $open_doc:literal])* $Open:ident )?
        }
    ) => {
        $(#[doc = $enum_doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub enum $Enum {
            $( $(#[doc = $kind_doc])* $Variant { $( $(#[doc = $doc])* $field: $ty, )* }, )*
            $(
                $(#[doc = $open_doc])*
                $Open {
                    /// The name under which it is registered.
                    kind: String,
                    /// Everything else in the section.
                    keys: ::toml::Table,
                },
            )?
        }

        impl $Enum {
            /// Every kind of the library, with what it is.
            pub const KINDS: &'static [(&'static str, &'static str)] = &[$( ($kind, concat!($($kind_doc),*)), )*];

            /// The name of this kind.
            #[must_use]
            pub fn kind(&self) -> &str {
                match self {
                    $( Self::$Variant { .. } => $kind, )*
                    $( Self::$Open { kind, .. } => kind, )?
                }
            }
        }

        impl $crate::runfile::key::Group for $Enum {
            fn keys(section: &'static str, out: &mut Vec<$crate::runfile::Key>) {
                out.push($crate::runfile::Key {
                    section,
                    name: stringify!($tag),
                    kind: None,
                    doc: concat!($($enum_doc),*).trim_ascii(),
                    unit: "",
                    need: $crate::runfile::key::one_of(&[$($kind),*]),
                    range: $crate::runfile::Range::Any,
                    default: $crate::runfile::key::default_kind(&[$($default_kind)?]),
                    resume: $crate::runfile::key::Resume::Fixed,
                });
                $( $( out.push($crate::runfile::key::one_key!(section, Some($kind), $field, $ty, [$($default)?], $unit, $range, $resume, concat!($($doc),*))); )* )*
            }

            fn read(reader: &mut $crate::runfile::reader::Reader<'_>) -> Option<Self> {
                let known: &[&'static str] = &[$($kind),*];
                let kind = reader.kind(stringify!($tag), known, &[$($default_kind)?])?;
                match kind.as_str() {
                    $(
                        $kind => {
                            $( let $field = reader.value::<$ty>(stringify!($field), $range, None $(.or(Some($default)))?); )*
                            Some(Self::$Variant { $( $field: $field?, )* })
                        }
                    )*
                    $( _ => Some(Self::$Open { kind, keys: reader.rest() }), )?
                    #[allow(unreachable_patterns, reason = "reached only in sections without registered kinds")]
                    _ => None,
                }
            }

            #[allow(unused_variables, reason = "a kind may have no keys")]
            fn write(&self, out: &mut Vec<(String, ::toml::Value)>) {
                out.push((stringify!($tag).to_owned(), ::toml::Value::String(self.kind().to_owned())));
                match self {
                    $( Self::$Variant { $($field),* } => {
                        $( out.extend($crate::runfile::Value::write($field).map(|toml| (stringify!($field).to_owned(), toml))); )*
                    } )*
                    $( Self::$Open { keys, .. } => out.extend(keys.iter().map(|(key, toml)| (key.clone(), toml.clone()))), )?
                }
            }
        }
    };
}

/// Declares a value that is one of several words.
macro_rules! names {
    (
        $(#[$meta:meta])*
        pub enum $Enum:ident { $( $(#[$variant_meta:meta])* $name:literal => $Variant:ident, )* }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $Enum { $( $(#[$variant_meta])* $Variant, )* }

        impl $crate::runfile::Value for $Enum {
            fn expects() -> String {
                $crate::runfile::key::one_of(Self::names())
            }

            fn read(toml: &::toml::Value) -> Option<Self> {
                match toml.as_str()? {
                    $( $name => Some(Self::$Variant), )*
                    _ => None,
                }
            }

            fn write(&self) -> Option<::toml::Value> {
                Some(::toml::Value::String(match self { $( Self::$Variant => $name, )* }.to_owned()))
            }

            fn names() -> &'static [&'static str] {
                &[$($name),*]
            }
        }
    };
}

/// The facts of one declared field.
macro_rules! one_key {
    ($section:expr, $kind:expr, $field:ident, $ty:ty, [$($default:expr)?], $unit:literal, $range:expr, $resume:ident, $doc:expr) => {
        $crate::runfile::Key {
            section: $section,
            name: stringify!($field),
            kind: $kind,
            doc: $doc.trim_ascii(),
            unit: $unit,
            need: $crate::runfile::key::need::<$ty>($range),
            range: $range,
            default: $crate::runfile::key::default::<$ty>(None $(.or(Some($default)))?),
            resume: $crate::runfile::key::Resume::$resume,
        }
    };
}

pub(crate) use {keys, kinds, names, one_key};

pub(crate) fn default<T: super::Value>(given: Option<T>) -> KeyDefault {
    match given.or_else(T::when_absent) {
        None => KeyDefault::Required,
        Some(value) => value.write().map_or(KeyDefault::Unset, KeyDefault::Value),
    }
}

pub(crate) fn default_kind(given: &[&str]) -> KeyDefault {
    given.first().map_or(KeyDefault::Required, |kind| KeyDefault::Value(Toml::String((*kind).to_owned())))
}

pub(crate) fn one_of(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    match quoted.as_slice() {
        [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        few => few.concat(),
    }
}
