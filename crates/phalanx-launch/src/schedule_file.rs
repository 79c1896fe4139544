//! Schedule files: the course of a learning rate that a run file can name.
//!
//! A TOML file with `version = 1` and `points`, a list of pairs: the share of the run's samples, from 0 to 1, and the factor on
//! `optimizer.lr` there. Between points the factor moves along lines.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use phalanx_optim::Point;

const VERSION: i64 = 1;

/// Writes a schedule file; `origin` says where it is from, in a line.
///
/// # Errors
/// When it cannot be written.
pub fn write(file: &Path, origin: &str, points: &[Point]) -> anyhow::Result<()> {
    let mut text = format!("# {origin}\nversion = {VERSION}\npoints = [\n");
    for Point { position, factor } in points {
        // writing to a string cannot fail
        writeln!(text, "    [{position:?}, {factor:?}],").ok();
    }
    text += "]\n";
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// Reads the points of a schedule file.
///
/// # Errors
/// When it cannot be read or is none; whether the points make a schedule is not judged here.
pub fn read(file: &Path) -> anyhow::Result<Vec<Point>> {
    let text =
        fs::read_to_string(file).with_context(|| format!("schedule.path: cannot read {}", file.display()))?;
    parse(&text).with_context(|| format!("schedule.path: {} is no schedule file", file.display()))
}

fn parse(text: &str) -> anyhow::Result<Vec<Point>> {
    let table: toml::Table = text.parse()?;
    let version = table.get("version").and_then(toml::Value::as_integer);
    ensure!(version == Some(VERSION), "got version {version:?}, need {VERSION}");
    let Some(points) = table.get("points").and_then(toml::Value::as_array) else {
        bail!("there are no points")
    };
    points
        .iter()
        .enumerate()
        .map(|(i, pair)| point(pair).with_context(|| format!("point {i} is {pair}, need two numbers")))
        .collect()
}

fn point(pair: &toml::Value) -> Option<Point> {
    let number = |value: &toml::Value| {
        value.as_float().or_else(|| value.as_integer().and_then(|i| i32::try_from(i).ok()).map(f64::from))
    };
    match pair.as_array()?.as_slice() {
        [position, factor] => Some(Point { position: number(position)?, factor: number(factor)? }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_to_the_last_bit() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let points = [(0.0, 0.1), (1.0 / 3.0, 1.0), (0.9, 2e-17)];
        let points = points.map(|(position, factor)| Point { position, factor });
        write(file.path(), "a test", &points).expect("written");
        assert_eq!(read(file.path()).expect("read"), points);
    }

    #[test]
    fn what_is_no_schedule_is_told() {
        let told = |text: &str| format!("{:#}", parse(text).expect_err("a fault"));
        assert_eq!(told("points = []"), "got version None, need 1");
        assert_eq!(told("version = 1"), "there are no points");
        assert!(told("version = 1\npoints = [[0, 1], [2]]").starts_with("point 1 is [2]"));
        assert_eq!(parse("version = 1\npoints = [[0, 1]]").expect("a point").len(), 1);
    }
}
