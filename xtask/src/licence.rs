//! Licence expressions as packages state them: `OR`, `AND`, `WITH`, brackets, and the slash of older ones.

use std::collections::BTreeSet;

/// Whether the expression can be met with licences of the list.
pub(crate) fn is_allowed(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    any_of(&mut words, allowed) && words.next().is_none()
}

type Words<'w> = std::iter::Peekable<std::str::SplitWhitespace<'w>>;

/// Terms joined by `OR`, which binds least.
fn any_of(words: &mut Words<'_>, allowed: &BTreeSet<&str>) -> bool {
    let mut is_met = all_of(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        is_met |= all_of(words, allowed);
    }
    is_met
}

fn all_of(words: &mut Words<'_>, allowed: &BTreeSet<&str>) -> bool {
    let mut is_met = term(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        is_met &= term(words, allowed);
    }
    is_met
}

fn term(words: &mut Words<'_>, allowed: &BTreeSet<&str>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let is_met = any_of(words, allowed);
        return words.next_if_eq(&")").is_some() && is_met;
    }
    let is_met = words.next().is_some_and(|name| allowed.contains(name));
    // an exception only ever permits more
    if words.next_if_eq(&"WITH").is_some() {
        return words.next().is_some() && is_met;
    }
    is_met
}

#[cfg(test)]
mod tests {
    use super::is_allowed;
    use std::collections::BTreeSet;

    #[test]
    fn expressions_are_met_or_not() {
        let allowed = BTreeSet::from(["MIT", "Apache-2.0", "ISC"]);
        let all = ["MIT", "GPL-3.0 OR MIT", "MIT/GPL-3.0", "Apache-2.0 AND ISC", "(GPL-3.0 OR MIT) AND ISC"];
        for met in all.into_iter().chain(["Apache-2.0 WITH LLVM-exception", "GPL-3.0 AND X OR MIT"]) {
            assert!(is_allowed(met, &allowed), "{met}");
        }
        for unmet in
            ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND X", "(MIT", "MIT ISC", "MIT OR ISC)"]
        {
            assert!(!is_allowed(unmet, &allowed), "{unmet}");
        }
    }
}
