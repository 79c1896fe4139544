//! Slurm's short forms: `node[001-003,7]` for names, `2(x3),1` for numbers.

/// The most names that a list may stand for; a cluster is smaller, a typing error is not.
const MAX_NAMES: usize = 100_000;

/// The names that a list of nodes stands for, in order; `None` if it is no such list.
pub(super) fn expand(list: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for part in split_outside_brackets(list)? {
        let mut grown = vec![String::new()];
        let mut rest = part;
        while let Some((text, inner)) = rest.split_once('[') {
            let (ranges, after) = inner.split_once(']')?;
            let numbers = numbers(ranges)?;
            if grown.len().checked_mul(numbers.len())? > MAX_NAMES {
                return None;
            }
            grown = grown
                .iter()
                .flat_map(|head| numbers.iter().map(move |number| format!("{head}{text}{number}")))
                .collect();
            rest = after;
        }
        grown.iter_mut().for_each(|name| name.push_str(rest));
        names.extend(grown);
    }
    let is_name = |name: &String| !name.is_empty() && !name.contains(['[', ']', ' ']);
    (names.len() <= MAX_NAMES && names.iter().all(is_name)).then_some(names)
}

/// Tasks of node number `node` in a list such as `2(x2),1`: of three nodes, two with two tasks and one with one.
pub(super) fn tasks_of_node(list: &str, node: usize) -> Option<usize> {
    let mut left = node;
    for part in list.split(',') {
        let (tasks, times) = match part.split_once("(x") {
            Some((tasks, times)) => (tasks, times.strip_suffix(')')?.parse().ok()?),
            None => (part, 1_usize),
        };
        if left < times {
            return tasks.trim().parse().ok();
        }
        left -= times;
    }
    None
}

/// Cuts at the commas that stand in no brackets.
fn split_outside_brackets(list: &str) -> Option<Vec<&str>> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, character) in list.char_indices() {
        match character {
            '[' => depth += 1,
            ']' => depth = depth.checked_sub(1)?,
            ',' if depth == 0 => {
                parts.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&list[start..]);
    (depth == 0).then_some(parts)
}

/// `001-003,7` as `001`, `002`, `003`, `7`: leading zeros stay.
pub(super) fn numbers(ranges: &str) -> Option<Vec<String>> {
    let mut numbers = Vec::new();
    for range in ranges.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (from, to): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if to.checked_sub(from)? >= MAX_NAMES {
            return None;
        }
        let width = first.len();
        numbers.extend((from..=to).map(|number| format!("{number:0width$}")));
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::{expand, tasks_of_node};

    #[test]
    fn ranges_keep_their_zeros() {
        let names = expand("node[001-003,020],login").expect("a list");
        assert_eq!(names, ["node001", "node002", "node003", "node020", "login"]);
        assert_eq!(expand("r[1-2]n[9-10]").expect("a list"), ["r1n9", "r1n10", "r2n9", "r2n10"]);
    }

    #[test]
    fn what_is_no_list_is_none() {
        for list in
            ["", "node[1-", "node]1[", "node[3-1]", "node[a-b]", "n[0-999999999]", "a,,b", "n[0-999][0-999]"]
        {
            assert_eq!(expand(list), None, "{list:?}");
        }
    }

    #[test]
    fn tasks_of_nodes_are_repeated() {
        let tasks: Vec<_> = (0..4).map(|node| tasks_of_node("2(x2),1", node)).collect();
        assert_eq!(tasks, [Some(2), Some(2), Some(1), None]);
        assert_eq!(tasks_of_node("two", 0), None);
    }
}
