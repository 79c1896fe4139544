//! Puts the page together: style, tables, data and script, all in one file.
use anyhow::Context as _;
use serde_json::json;

use super::html::{escape, script_json};
use super::run::Run;
use super::{chart, tables};

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");

/// The page about `runs`.
pub(super) fn render(runs: &[Run]) -> anyhow::Result<String> {
    let labels: Vec<_> = runs.iter().map(|run| run.label.as_str()).collect();
    let title = escape(&labels.join(", "));
    let data = serde_json::to_string(&json!({"runs": labels, "charts": chart::charts(runs)}))
        .context("cannot encode the curves")?;
    let (failures, figures) = (tables::failures(runs), tables::figures(runs));
    let (settings, notes) = (tables::settings(runs), tables::notes(runs));
    let data = script_json(&data);
    // the policy makes the browser hold what the page promises: nothing is fetched from anywhere
    Ok(format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · phalanx</title>
<style>
{STYLE}</style>
</head>
<body>
<header><p class="product">phalanx report</p><h1>{title}</h1></header>
<main>
{failures}{figures}{notes}<section id="curves"><h2>Curves</h2>
<noscript><p class="quiet">The curves are drawn by a script; the tables need none.</p></noscript>
</section>
{settings}</main>
<script type="application/json" id="data">{data}</script>
<script>
{SCRIPT}</script>
</body>
</html>
"#
    ))
}
