//! The page of an experiment: what was run, and what came out.

use super::Method;
use super::outcome::{Goal, Outcome, spread};
use super::prediction::{Network, seconds_on};

/// Numbers of ranks for which a time is predicted.
const RANKS: [u64; 2] = [8, 64];

pub(super) fn markdown(
    title: &str,
    methods: &[Method],
    goal: Goal,
    network: Network,
    pictures: &[(&str, String)],
) -> String {
    let score = match goal {
        Goal::Accuracy(_) => "test accuracy, %",
        Goal::Loss(_) => "test loss",
    };
    let reached = match goal {
        Goal::Accuracy(least) => format!("{:.0} % validation accuracy", 100.0 * least),
        Goal::Loss(most) => format!("validation loss {most}"),
    };
    let mut text = format!(
        "# {title}\n\nMean ± standard deviation over seeds. Seconds are those of the steps, without evaluations and checkpoints, on \
         {}. Predicted seconds take the run's own step times and a ring all-reduce that nothing hides, with {:.0} µs and \
         {:.2} GB/s (1e9 bytes) between ranks.\n\n",
        ranks(methods),
        1e6 * network.latency,
        network.bandwidth / 1e9,
    );
    text += &format!(
        "| method | seeds | {score} | steps | last batch | seconds | seconds to {reached} | predicted on {} ranks | on {} ranks |\n",
        RANKS[0], RANKS[1]
    );
    text += "|---|---|---|---|---|---|---|---|---|\n";
    for method in methods {
        text += &row(method, goal, network);
    }
    for (title, file) in pictures {
        text += &format!("\n![{title}]({file})\n");
    }
    text
}

fn row(method: &Method, goal: Goal, network: Network) -> String {
    let of = |value: &dyn Fn(&Outcome) -> Option<f64>| -> Vec<f64> {
        method.outcomes.iter().filter_map(value).collect()
    };
    let score = of(&|outcome| match goal {
        Goal::Accuracy(_) => outcome.summary.test_accuracy.map(|share| 100.0 * share),
        Goal::Loss(_) => outcome.summary.test_loss,
    });
    let reached = of(&|outcome| outcome.seconds_to(goal));
    let missed = method.outcomes.len() - reached.len();
    let to_goal = match (reached.is_empty(), missed) {
        (true, _) => "not reached".to_owned(),
        (false, 0) => told(&reached, 1),
        (false, missed) => format!("{}; {missed} not", told(&reached, 1)),
    };
    let digits = if matches!(goal, Goal::Accuracy(_)) { 2 } else { 4 };
    let cells = [
        method.name.clone(),
        method.outcomes.len().to_string(),
        told(&score, digits),
        told(&of(&|outcome| Some(outcome.summary.steps as f64)), 0),
        told(&of(&|outcome| Some(outcome.summary.final_batch as f64)), 0),
        told(&of(&|outcome| Some(outcome.seconds())), 1),
        to_goal,
        told(&of(&|outcome| seconds_on(outcome, RANKS[0], network)), 1),
        told(&of(&|outcome| seconds_on(outcome, RANKS[1], network)), 1),
    ];
    format!("| {} |\n", cells.join(" | "))
}

/// Mean and spread with so many digits behind the point.
fn told(values: &[f64], digits: usize) -> String {
    match spread(values) {
        None => "-".to_owned(),
        Some((mean, None)) => format!("{mean:.digits$}"),
        Some((mean, Some(deviation))) => format!("{mean:.digits$} ± {deviation:.digits$}"),
    }
}

fn ranks(methods: &[Method]) -> String {
    let ranks = methods.iter().flat_map(|method| &method.outcomes).map(|outcome| outcome.summary.ranks).max();
    format!("{} ranks of one machine", ranks.unwrap_or(0))
}
