//! The known name that a mistyped one was probably meant to be.

/// Returns the nearest of `known` to `got`, if any is near enough to be a slip of the hand.
///
/// Near enough is one edit in three letters (Damerau-Levenshtein, so that swapped letters count
/// once), case, `-` and `_` aside. The first of `known` wins a tie.
pub(crate) fn nearest<'a>(got: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let got = plain(got);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&got, &plain(name)), name))
        .filter(|(distance, name)| *distance <= got.len().max(name.len()).div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Longer names are cut: the distance takes time and memory that grow with their product.
fn plain(name: &str) -> String {
    name.chars().take(64).filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn swapped_letters_case_and_dashes_are_slips() {
        let known = ["sgd", "adamw", "adagrad", "adagrad-norm"];
        assert_eq!(nearest("admaw", known), Some("adamw"));
        assert_eq!(nearest("AdamW", known), Some("adamw"));
        assert_eq!(nearest("adagrad_norm", known), Some("adagrad-norm"));
        assert_eq!(nearest("rmsprop", known), None);
    }
}
