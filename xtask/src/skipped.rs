//! Tests that were left out: the lines in which they say so.

use anyhow::{Context as _, Result, bail};

use crate::shell::root;

/// A test that did not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Skipped {
    pub(crate) test: String,
    pub(crate) reason: String,
}

/// What a line of a test's output says, if it says that something was left out.
pub(crate) fn reason(line: &str) -> Option<&str> {
    ["skipped: ", "left out: "].into_iter().find_map(|head| line.trim_start().strip_prefix(head))
}

/// The tests that the last run of nextest left out, by the report that .config/nextest.toml asks it for.
pub(crate) fn from_report() -> Result<Vec<Skipped>> {
    // where nextest keeps it, wherever cargo builds
    let report = root().join("target/nextest/xtask/junit.xml");
    let xml = std::fs::read_to_string(&report).with_context(|| format!("reading {}", report.display()))?;
    Ok(from_junit(&xml))
}

/// Reads the report that nextest writes in the form of `JUnit`, line by line: each `testcase` stands on one, its
/// output on those that follow.
fn from_junit(xml: &str) -> Vec<Skipped> {
    let mut test = String::new();
    let mut found = Vec::new();
    for line in xml.lines() {
        if let Some((_, rest)) = line.split_once("<testcase name=\"") {
            test = rest.split('"').next().unwrap_or_default().to_owned();
        }
        let text = line.rsplit_once("<system-out>").map_or(line, |(_, text)| text);
        let text = text.split("</system-out>").next().unwrap_or_default();
        if let Some(reason) = reason(text) {
            found.push(Skipped { test: test.clone(), reason: unescaped(reason) });
        }
    }
    found
}

/// Reads what `cargo test -- --show-output` prints: a head for each test, then its lines.
pub(crate) fn from_shown(output: &str) -> Vec<Skipped> {
    let mut test = String::new();
    let mut found = Vec::new();
    for line in output.lines() {
        if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            test = name.to_owned();
        } else if let Some(reason) = reason(line) {
            found.push(Skipped { test: test.clone(), reason: reason.to_owned() });
        }
    }
    found
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

/// Prints the table, and fails where `PHALANX_REQUIRE=all` allows nothing in it but a missing GPU.
pub(crate) fn report(skipped: &[Skipped], is_all_required: bool) -> Result<()> {
    if skipped.is_empty() {
        println!("\nnothing was left out");
        return Ok(());
    }
    let width = skipped.iter().map(|s| s.test.len()).max().unwrap_or_default();
    println!("\nleft out:");
    for Skipped { test, reason } in skipped {
        println!("  {test:<width$}  {reason}");
    }
    let count = skipped.iter().filter(|s| !s.reason.contains("no GPU")).count();
    if is_all_required && count > 0 {
        bail!(
            "{count} tests were left out, PHALANX_REQUIRE=all allows none; `cargo xtask setup` installs what they need"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Skipped, from_junit, from_shown, report};

    fn skipped(test: &str, reason: &str) -> Skipped {
        Skipped { test: test.to_owned(), reason: reason.to_owned() }
    }

    #[test]
    fn both_forms_of_output_are_read() {
        let xml = "<testcase name=\"a::runs\" time=\"0\">\n<system-out>\nrunning 1 test\n</system-out>\n\
                   <testcase name=\"b::reads\" time=\"0\">\n<system-out>\nskipped: torch &lt; 1\n</system-out>\n";
        assert_eq!(from_junit(xml), [skipped("b::reads", "torch < 1")]);
        let xml = "<testcase name=\"c\">\n<system-out>left out: no GPU</system-out>";
        assert_eq!(from_junit(xml), [skipped("c", "no GPU")]);
        let shown =
            "---- a::runs stdout ----\nhello\n\n---- b stdout ----\nskipped: no images\n\nsuccesses:\n";
        assert_eq!(from_shown(shown), [skipped("b", "no images")]);
    }

    #[test]
    fn only_a_gpu_may_be_missing_where_all_is_required() {
        let images = [skipped("reads", "no images")];
        assert!(report(&images, false).is_ok());
        assert!(report(&images, true).is_err());
        assert!(report(&[skipped("device", "no GPU")], true).is_ok());
    }
}
