//! Every rule, pre-aggregator and attack by its name, with settings that run files can hold.
//!
//! ```
//! use phalanx_robust::registry::{PreConfig, RuleConfig};
//! use phalanx_robust::Robust;
//! let rule: RuleConfig = toml::from_str("rule = \"multi-krum\"\nkeep = 5")?;
//! let pre: PreConfig = toml::from_str("kind = \"nnm\"")?;
//! let robust = Robust::new(2, rule.build()?).behind(pre.build());
//! assert_eq!((rule.name(), pre.name(), robust.min_n()), ("multi-krum", "nnm", 7));
//!
//! let typo = toml::from_str::<RuleConfig>("rule = \"multi-krum\"\nkept = 5").unwrap_err();
//! assert!(typo.to_string().contains("unknown field `kept`"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod attacks;
mod pre_aggregators;
mod rules;
mod table;

pub use attacks::{AttackConfig, MimicConfig};
pub use pre_aggregators::PreConfig;
pub use rules::{CenteredClippingConfig, Empty, RlrBase, RlrConfig, RuleConfig};
pub use table::{Entry, Kind, entries};

/// An enum of configurations by name: its serde form, its names and its defaults in one place.
macro_rules! named {
    ($(#[$attr:meta])* $vis:vis enum $name:ident by $tag:literal { $($(#[$doc:meta])* $text:literal => $variant:ident($config:ty),)* }) => {
        $(#[$attr])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(tag = $tag)]
        #[non_exhaustive]
        $vis enum $name {
            $($(#[$doc])* #[serde(rename = $text)] $variant($config),)*
        }

        impl $name {
            /// All names, in the order of the documentation.
            pub const NAMES: &[&str] = &[$($text),*];

            /// The name.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $text,)*
                }
            }

            /// The default settings under a name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($text => Some(Self::$variant(<$config>::default())),)*
                    _ => None,
                }
            }
        }
    };
}
use named;
