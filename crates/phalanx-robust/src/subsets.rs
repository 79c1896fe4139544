//! The best subset of `n - f`, without looking at most of them.

use phalanx_grad::GradError;

/// Steps of a search at most: minutes are a hang to whoever waits.
pub(crate) const LIMIT: u64 = 1_000_000;

/// The `f` of `n` that `rule` removes: those whose removal costs least, the first in order among equals.
///
/// `bound` says, of those removed so far and the first that may still go, the least that any completion can cost; it
/// is the cost itself when `f` are removed.
///
/// # Errors
/// [`GradError::TooManySubsets`] past [`LIMIT`] steps.
pub(crate) fn best_removal(
    rule: &'static str,
    n: usize,
    f: usize,
    mut bound: impl FnMut(&[usize], usize) -> f64,
) -> Result<Vec<usize>, GradError> {
    let mut search =
        Search { n, f, best: f64::INFINITY, found: Vec::new(), removed: Vec::new(), left: LIMIT };
    match search.descend(0, &mut bound) {
        true => Ok(search.found),
        false => Err(GradError::TooManySubsets { rule, n, hostile: f, limit: LIMIT }),
    }
}

struct Search {
    n: usize,
    f: usize,
    best: f64,
    found: Vec<usize>,
    removed: Vec<usize>,
    left: u64,
}

impl Search {
    fn descend(&mut self, from: usize, bound: &mut impl FnMut(&[usize], usize) -> f64) -> bool {
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        let cost = bound(&self.removed, from);
        if cost >= self.best {
            return true;
        }
        let missing = self.f - self.removed.len();
        if missing == 0 {
            (self.best, self.found) = (cost, self.removed.clone());
            return true;
        }
        for i in from..=self.n - missing {
            self.removed.push(i);
            let go_on = self.descend(i + 1, bound);
            self.removed.pop();
            if !go_on {
                return false;
            }
        }
        true
    }
}

/// Those that are not removed.
pub(crate) fn kept(n: usize, removed: &[usize]) -> Vec<usize> {
    (0..n).filter(|i| !removed.contains(i)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheapest_removal_is_found_and_of_equals_the_first() {
        let costs = [3.0, 1.0, 2.0, 1.0];
        let sum = |removed: &[usize], _| removed.iter().map(|i| costs[*i]).sum();
        assert_eq!(best_removal("mva", 4, 2, sum).unwrap(), [1, 3]);
        assert_eq!(best_removal("mva", 4, 1, sum).unwrap(), [1]);
        assert!(best_removal("mva", 4, 0, sum).unwrap().is_empty());
        assert_eq!(kept(4, &[1, 3]), [0, 2]);
    }

    #[test]
    fn a_search_without_end_ends() {
        assert_eq!(best_removal("mva", 60, 30, |_, _| 0.0).unwrap(), (0..30).collect::<Vec<_>>());
        let mut falling = 0.0;
        let never_sure = |_: &[usize], _| {
            falling -= 1.0;
            falling
        };
        let error = best_removal("mva", 60, 30, never_sure).unwrap_err();
        assert!(matches!(error, GradError::TooManySubsets { rule: "mva", n: 60, hostile: 30, limit: LIMIT }));
    }
}
