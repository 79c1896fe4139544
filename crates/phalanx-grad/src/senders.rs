//! What those are called whose gradients a rule over ranks compares, for messages.

use std::fmt;

/// Who hands a rule over ranks its gradients.
///
/// # Examples
/// ```
/// use phalanx_grad::Senders;
/// assert_eq!((Senders::Nodes.one(), Senders::Clients.to_string().as_str()), ("node", "clients"));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Senders {
    /// The ranks of a run, a gradient each.
    #[default]
    Ranks,
    /// The nodes of a run, the mean over its ranks each.
    Nodes,
    /// The clients of a round of federated training, an update each.
    Clients,
}

impl Senders {
    /// The word for one of them.
    #[must_use]
    pub fn one(self) -> &'static str {
        match self {
            Senders::Ranks => "rank",
            Senders::Nodes => "node",
            Senders::Clients => "client",
        }
    }

    /// The word for several.
    #[must_use]
    pub fn many(self) -> &'static str {
        match self {
            Senders::Ranks => "ranks",
            Senders::Nodes => "nodes",
            Senders::Clients => "clients",
        }
    }

    /// A rule over several, whichever it is.
    #[must_use]
    pub fn rule(self) -> &'static str {
        match self {
            Senders::Ranks => "a rule over ranks",
            Senders::Nodes => "a rule over nodes",
            Senders::Clients => "a rule over clients",
        }
    }
}

/// The word for several.
impl fmt::Display for Senders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.many())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GradError;

    #[test]
    fn errors_of_rules_over_ranks_name_the_senders_and_others_stay() {
        let told = |error: GradError| error.over(Senders::Clients).to_string();
        let nonfinite = |what| GradError::NonFinite { what, count: 1 };
        assert!(told(nonfinite(Senders::Ranks.rule())).starts_with("a rule over clients met 1"));
        assert!(told(nonfinite("the second step")).starts_with("the second step met 1"));
        assert_eq!(
            told(GradError::NoSamples { axis: "samples" }),
            "the gradients over samples stand for no sample"
        );
        assert!(told(GradError::NoSamples { axis: "ranks" }).contains("over clients"));
    }
}
