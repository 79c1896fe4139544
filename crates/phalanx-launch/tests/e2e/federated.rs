//! Rounds of many clients, honest and hostile, played on a few ranks.

use std::process::Stdio;

use phalanx_train::FederatedFigures;
use phalanx_train::events::{self, Event, RoundDone};

use crate::program::{Dir, Ended};
use crate::resume::checkpoint_after;

/// Twenty clients with digits of few classes each, six a round.
pub(crate) const TWENTY: &str = r#"
name = "twenty"
seed = 5
[model]
kind = "mlp"
hidden = [24]
[data]
kind = "digits"
[partition]
kind = "dirichlet"
alpha = 0.5
least = 10
[local]
epochs = 2
batch = 16
[optimizer]
lr = 0.1
momentum = 0.9
"#;

/// So many rounds, with more keys of `[federated]` and more sections.
fn of(rounds: u64, federated: &str, more: &str) -> Dir {
    Dir::new(&format!(
        "{TWENTY}[federated]\nclients = 20\nper_round = 6\nrounds = {rounds}\n{federated}\n{more}"
    ))
}

/// A model of several blocks of coordinates, so that each rank holds some; with what is remembered from round to round.
fn remembering(rounds: u64, more: &str) -> Dir {
    let dir = of(rounds, REMEMBERING.0, &format!("{more}{}", REMEMBERING.1));
    let text = std::fs::read_to_string(dir.path("run.toml")).expect("a file");
    dir.write("run.toml", text.replace("hidden = [24]", "hidden = [96]"));
    dir
}

impl Dir {
    fn federate(&self, to: &str, more: &[&str]) -> Ended {
        self.run(&[&["federate", "run.toml", "--run-dir", to], more].concat())
    }

    fn figures(&self, run: &str) -> FederatedFigures {
        self.summary(run).federated.expect("a federated run")
    }

    fn rounds(&self, run: &str) -> Vec<RoundDone> {
        let log = events::read(&self.files(run).events()).expect("events");
        let round = |event| match event {
            Event::Round(round) => Some(round),
            _ => None,
        };
        log.events.into_iter().filter_map(round).collect()
    }
}

/// Variates, running means, a victim and a center are all remembered from round to round.
const REMEMBERING: (&str, &str) = (
    "algorithm = \"scaffold\"\nserver_lr = 0.5\nover_select = 0.4\nspread = 0.5\ndropout = 0.1",
    "[aggregation]\nrule = \"centered-clipping\"\ntau = 1.0\nmomentum = 0.5\nbefore = [\"multi-metrics\", \"nnm\"]\n\
     [[attack]]\nkind = \"mimic\"\nclients = [3, 4]\nwarm_up = 3\n\
     [[attack]]\nkind = \"label-flip\"\nclients = [4, 9]\n",
);

#[test]
fn the_model_has_the_same_bits_for_every_number_of_ranks() {
    let dir = remembering(5, "");
    let model = |ranks: &str| {
        dir.federate(ranks, &["--ranks", ranks]).done();
        dir.trained(ranks)
    };
    let one = model("1");
    assert!(model("2") == one, "2 ranks");
    assert!(model("4") == one, "4 ranks");
    // what became of whom does not depend on it either
    assert_eq!(dir.rounds("4"), dir.rounds("1"));
}

#[test]
fn a_killed_run_goes_on_to_the_same_bits_on_other_ranks() {
    let dir = remembering(40, "[checkpoint]\nevery_steps = 2\n");
    dir.federate("whole", &[]).done();
    let mut child = dir
        .command(&["federate", "run.toml", "--run-dir", "killed"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    checkpoint_after(&dir, "killed", 2);
    child.kill().expect("a signal");
    assert_eq!(child.wait().expect("an end").code(), None, "killed in the middle");
    dir.run(&["federate", "--resume", "killed", "--ranks", "3"]).done();
    assert_eq!(dir.summary("killed").resumes, 1);
    assert!(dir.trained("killed") == dir.trained("whole"), "the models differ");
    assert_eq!(dir.rounds("killed"), dir.rounds("whole"), "each round is told once");
    let tally = |run| (dir.figures(run).updates, dir.figures(run).caught, dir.figures(run).wronged);
    assert_eq!(tally("killed"), tally("whole"));
}

/// The sums of the clients' updates, which each rank keeps for its coordinates, and an update of the server's own.
#[test]
fn sums_of_the_past_and_what_is_trusted_do_not_depend_on_ranks() {
    for rule in ["rule = \"fools-gold\"", "rule = \"fltrust\"\ntrusted_samples = 50"] {
        let dir = of(6, "", &format!("[aggregation]\n{rule}\n"));
        let text = std::fs::read_to_string(dir.path("run.toml")).expect("a file");
        dir.write("run.toml", text.replace("hidden = [24]", "hidden = [96]"));
        dir.federate("one", &["--ranks", "1"]).done();
        dir.federate("cut", &["--ranks", "3", "--set", "federated.rounds=3"]).done();
        dir.run(&["federate", "--resume", "cut", "--ranks", "2", "--set", "federated.rounds=6"]).done();
        assert!(dir.trained("cut") == dir.trained("one"), "{rule}");
        assert_eq!(dir.rounds("cut"), dir.rounds("one"), "{rule}");
    }
}

/// Twelve of twenty clients send the opposite, longer.
#[test]
fn an_update_of_the_servers_own_bears_a_majority() {
    let lies = "[[attack]]\nkind = \"sign-flip\"\ncount = 12\nscale = 4.0\n";
    let trusted = of(40, "", &format!("[aggregation]\nrule = \"fltrust\"\ntrusted_samples = 100\n{lies}"));
    let told = trusted.federate("plan", &["--dry-run"]).done();
    assert!(told.contains("\n# trusted     100 samples\n# clients     20, 12 hostile"), "{told}");
    trusted.federate("run", &[]).done();
    let got = trusted.summary("run").test_accuracy.expect("digits have classes");
    let blind = of(40, "", &format!("[aggregation]\nrule = \"median\"\n{lies}"));
    blind.federate("run", &[]).done();
    let lost = blind.summary("run").test_accuracy.expect("digits have classes");
    assert!(got > 0.45 && lost < 0.25, "{got} against {lost}");
}

#[test]
fn every_algorithm_learns() {
    for (algorithm, keys) in [
        ("fedavg", ""),
        ("fedprox", "mu = 0.05"),
        ("fedavgm", "server_momentum = 0.5"),
        ("fedadam", "server_lr = 0.03"),
        ("fedyogi", "server_lr = 0.03"),
        ("fedadagrad", "server_lr = 0.1"),
        ("scaffold", ""),
        ("fednova", ""),
    ] {
        let dir = of(12, &format!("algorithm = \"{algorithm}\"\n{keys}"), "");
        dir.federate("run", &[]).done();
        let got = dir.summary("run").test_accuracy.expect("digits have classes");
        assert!(got > 0.6, "{algorithm}: {got}");
    }
}

/// A trigger on half of the attacker's samples, whose update outweighs the others every third round.
const BACKDOOR: &str = "[[attack]]\nkind = \"backdoor\"\nclients = [0]\nevery = 3\nepochs = 4\nsize = 2\ngap = 1\n\
                        value = 4.0\ntarget = 7\n\
                        [[attack]]\nkind = \"model-replacement\"\nclients = [0]\nevery = 3\nfactor = 6.0\n";

#[test]
fn a_backdoor_opens_under_the_mean_and_shows() {
    let mean = of(12, "", BACKDOOR);
    let ended = mean.federate("run", &["--set", "federated.eval_every_rounds=3"]);
    assert!(
        ended.err.contains("the run is under attack: backdoor by client 0, in each round that 3 divides"),
        "{}",
        ended.err
    );
    let out = ended.done();
    assert!(out.contains("\n  backdoor       "), "{out}");
    let opened = mean.figures("run").backdoor_accuracy.expect("there is one");
    assert!(opened > 0.7, "{opened}");
    for round in mean.rounds("run") {
        let hostile: Vec<u64> =
            round.clients.iter().filter(|one| one.hostile).map(|one| one.client).collect();
        let need: &[u64] = if round.step % 3 == 0 { &[0] } else { &[] };
        assert_eq!((hostile.as_slice(), round.clients.len()), (need, 6));
    }

    let rule = "[aggregation]\nrule = \"multi-krum\"\nhostile = 1\n";
    let krum = of(12, "", &format!("{rule}{BACKDOOR}"));
    krum.federate("run", &[]).done();
    let figures = krum.figures("run");
    let closed = figures.backdoor_accuracy.expect("there is one");
    assert!(closed < 0.3, "{closed}");
    assert_eq!((figures.hostile_updates, figures.caught), (4, Some(1.0)));
    // one honest client of six is left out in the other rounds
    let wronged = figures.wronged.expect("there are honest clients");
    assert!((wronged - 8.0 / 68.0).abs() < 1e-12, "{wronged}");
    let third = &krum.rounds("run")[2];
    let attacker = third.clients.iter().find(|one| one.client == 0).expect("its round");
    assert_eq!(attacker.left_out.as_deref(), Some("left_out"));
    assert_eq!((third.caught, third.wronged), (1, 0));
    let norms = third.clients.iter().filter(|one| !one.hostile).map(|one| one.norm);
    assert!(norms.fold(0.0, f64::max) < attacker.norm, "{third:?}");
    assert!(third.clients.iter().all(|one| one.loss > 0.0 && one.accuracy > 0.0 && one.score.is_some()));
}

/// Numbers that are none, infinite, huge, or the same as another's, of as many clients as the rule bears.
#[test]
fn hostile_numbers_are_named_and_nothing_is_lost() {
    for kind in ["nan", "inf", "huge", "zero", "mimic"] {
        let attack = format!(
            "[aggregation]\nrule = \"median\"\nhostile = 2\n[[attack]]\nkind = \"{kind}\"\ncount = 4\n"
        );
        let dir = of(8, "", &attack);
        dir.federate("run", &[]).done();
        let got = dir.summary("run");
        assert!(got.test_accuracy.is_some_and(|share| share > 0.5), "{kind}: {:?}", got.test_accuracy);
        let caught = dir.figures("run").caught.expect("they take part");
        let need = if matches!(kind, "nan" | "inf") { 1.0 } else { 0.0 };
        assert!(caught >= need, "{kind}: {caught}");
    }
}

#[test]
fn rounds_without_a_result_leave_the_model_or_stop_the_run() {
    let rule = "[aggregation]\nrule = \"krum\"\nhostile = 1\n";
    // some rounds have fewer answers than the five that the rule needs
    let dir = of(8, "dropout = 0.4", rule);
    let ended = dir.federate("run", &[]);
    assert!(
        ended.err.contains("leaves the model as it was: krum needs 5 gradients over clients, got"),
        "{}",
        ended.err
    );
    let out = ended.done();
    assert!(out.contains("rounds left the model as it was"), "{out}");
    let unusable = dir.rounds("run").iter().filter(|round| round.unusable.is_some()).count() as u64;
    assert_eq!((dir.figures("run").unusable_rounds, dir.summary("run").steps), (unusable, 8));
    assert!(unusable > 0 && unusable < 8, "{unusable}");
    dir.federate("stopped", &["--set", "federated.on_unusable=stop"])
        .failed(1, &["cannot be used", "krum needs 5 gradients over clients"]);

    // nobody sends numbers: the model stays what it was
    let all = "[[attack]]\nkind = \"nan\"\ncount = 20\n";
    let dir = of(3, "", all);
    dir.federate("run", &[]).done();
    assert_eq!(dir.figures("run").unusable_rounds, 3);
    dir.run(&["federate", "run.toml", "--run-dir", "more", "--set", "federated.rounds=1"]).done();
    assert!(dir.trained("more") == dir.trained("run"));

    // more clients than samples: those without any are never asked, and it is said
    let many = of(2, "", "");
    let sets = ["federated.clients=1500", "partition.kind=iid", "local.batch=1"];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let file = TWENTY.replace("alpha = 0.5\nleast = 10\n", "");
    many.write("run.toml", format!("{file}[federated]\nclients = 20\nper_round = 6\nrounds = 2\n"));
    let ended = many.federate("run", &sets);
    assert!(ended.err.contains("206 of 1500 clients have no samples"), "{}", ended.err);
    ended.done();
}

#[test]
fn the_local_batch_grows_as_gradients_spread() {
    let dir = of(6, "", "");
    let file = TWENTY.replace("batch = 16", "batch = 8\ngrowth_eta = 0.5\nmax_batch = 64");
    dir.write("run.toml", format!("{file}[federated]\nclients = 20\nper_round = 6\nrounds = 6\n"));
    dir.federate("run", &[]).done();
    let last = dir.summary("run").final_batch;
    assert!(last > 8 && last <= 64, "{last}");
}

#[test]
fn what_cannot_be_is_said_before_a_rank_starts() {
    let refused = |federated: &str, more: &str, parts: &[&str]| {
        let dir = of(2, federated, more);
        dir.federate("run", &[]).failed(2, parts);
        assert!(!dir.path("run").exists(), "nothing is left behind");
    };
    refused("algorithm = \"fedprx\"", "", &["unknown algorithm \"fedprx\", did you mean `fedprox`?"]);
    refused("sampling = \"unifrom\"", "", &["unknown sampling \"unifrom\", did you mean `uniform`?"]);
    refused("server_rl = 1.0", "", &["unknown key, did you mean `federated.server_lr`?"]);
    refused("mu = 0.1", "", &["not a key of federated fedavg"]);
    refused(
        "",
        "[aggregation]\nrule = \"krum\"\nhostile = 2\n",
        &["aggregation.hostile: 2 hostile of 6 clients: krum needs 7 gradients over clients, got 6"],
    );
    refused(
        "",
        "[aggregation]\nover = \"nodes\"\n",
        &["aggregation.over: a federated run is over clients, which ranks play: need \"ranks\""],
    );
    refused(
        "",
        "[aggregation]\nrule = \"fltrust\"\n",
        &["aggregation.rule: fltrust compares with what samples that are trusted give", "trusted_samples"],
    );
    refused(
        "",
        "[aggregation]\nrule = \"fltrust\"\ntrusted_samples = 2000\n",
        &["aggregation.trusted_samples", "got 2000 trusted samples, need 1 to 1293"],
    );
    refused(
        "",
        "[[attack]]\nkind = \"dba\"\ncount = 30\n",
        &["attack: dba names client 30, federated.clients is 20"],
    );
    refused(
        "",
        "[[attack]]\nkind = \"dba\"\ncount = 1\ntarget = 12\nsize = 2\ngap = 1\n",
        &["needs samples of class 12, there are none"],
    );
    let dir = of(2, "", "");
    let set = |assignment: &str| dir.federate("run", &["--set", assignment]);
    set("federated.per_round=21").failed(2, &["got 21 clients, need at most federated.clients (20)"]);
    set("partition.least=100").failed(2, &["1294 samples over 20 clients by dirichlet", "need 100"]);
    dir.train("run", &[]).failed(2, &["run.toml is a run file of `phalanx federate`"]);
    let told = dir.federate("run", &["--dry-run"]).done();
    assert!(told.contains("[federated]") && told.contains("\n# rounds      2 of 6 clients"), "{told}");
    dir.federate("run", &[]).done();
    dir.run(&["federate", "--resume", "run", "--set", "federated.per_round=5"])
        .failed(2, &["a resumed run keeps it"]);
    let scored = dir.run(&["eval", "run", "--checkpoint", "last"]).done();
    assert!(scored.contains("accuracy"), "{scored}");
}
