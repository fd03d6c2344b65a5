//! A situation in words, and the plan for it in words.

use std::collections::BTreeMap;
use std::time::Duration;

use expect_test::Expect;
use skerry_model::manifest::{
    Artifact, DesiredStatus, ImageArtifact, ProcessArtifact, ProcessLimits, PullPolicy, RestartPolicy, RuntimeSettings,
    RuntimeStatus, StartupOrder,
};
use skerry_model::{Manifest, ModuleName, ModuleSpec, Now, Timestamp};

use crate::reconcile::{Action, History, ModuleHistory, Observed, ObservedModule, Plan, Policy, Underway, plan};

/// When every situation is.
const NOW: Timestamp = Timestamp::from_unix_seconds(1_000_000_000);

/// Reads clauses separated by `;`:
/// `want NAME@VERSION [KIND] [POLICY] [stopped|as-it-is] [order N]` ·
/// `have NAME@VERSION [KIND] (running|new|dead|unknown|unhealthy|exited CODE Ns ago|was-stopped CODE Ns ago|crashed N times, last Ns
/// ago|restarted N times, up Ns) [old-identity]` · `busy NAME@VERSION preparing|starting` · `failed NAME N times, last Ns ago` · `limit N` ·
/// `booted Ns ago` · `no KIND`.
pub(super) fn check(situation: &str, expected: &Expect) {
    let mut manifest = empty_manifest();
    let (mut observed, mut history) = (Observed::default(), History::default());
    let mut artifacts = Vec::new();
    for clause in situation.split(';').map(str::trim) {
        let words: Vec<&str> = clause.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        match words[..] {
            ["want", module, ..] => {
                let spec = wanted(module, &words[2..]);
                manifest.modules.insert(spec.name.clone(), spec);
            }
            ["have", module, ..] => {
                let (artifact, module, past) = present(module, &words[2..]);
                artifacts.push(artifact);
                history.modules.insert(module.name.clone(), past);
                observed.modules.push(module);
            }
            ["busy", module, how] => {
                let spec = wanted(module, &[]);
                observed.underway.push(Underway {
                    module: spec.name.clone(),
                    digest: Some(spec.digest()),
                    is_preparing: how == "preparing",
                    will_start: true,
                });
            }
            ["failed", module, times, "times", "last", ago, "ago"] => {
                let past = history.modules.entry(ModuleName::parse(module).unwrap()).or_default();
                past.failures = times.parse().unwrap();
                past.failed_at = Some(before_now(ago));
            }
            ["limit", _] => history.policy = Policy::original(),
            ["booted", ago, "ago"] => observed.booted_at = Some(before_now(ago)),
            ["no", kind] => observed.unreachable.push(known_kind(kind)),
            _ => panic!("{clause}"),
        }
    }
    adopt(&manifest, &mut observed, &artifacts);
    let now = Now { wall: NOW, ..Now::default() };
    expected.assert_eq(&told(&plan(&manifest, &observed, &history, now)));
}

pub(super) fn empty_manifest() -> Manifest {
    Manifest {
        schema_version: "1.1".to_owned(),
        runtime: RuntimeSettings::default(),
        edge_agent: None,
        edge_hub: None,
        modules: BTreeMap::new(),
    }
}

/// What is wanted by default restarts `always`, so that the policy is not part of every clause.
pub(super) fn wanted(module: &str, words: &[&str]) -> ModuleSpec {
    let (name, version) = module.split_once('@').unwrap();
    let mut spec = ModuleSpec {
        name: ModuleName::parse(name).unwrap(),
        artifact: artifact("docker", version),
        env: BTreeMap::new(),
        status: DesiredStatus::Running,
        restart: RestartPolicy::Always,
        startup_order: StartupOrder::LAST,
        version: String::new(),
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "docker" | "process" => spec.artifact = artifact(word, version),
            "stopped" => spec.status = DesiredStatus::Stopped,
            "as-it-is" => spec.status = DesiredStatus::AsItIs(RuntimeStatus::Unknown),
            "order" => spec.startup_order = StartupOrder(words.next().unwrap().parse().unwrap()),
            policy => spec.restart = RestartPolicy::parse(policy).unwrap(),
        }
    }
    spec
}

fn artifact(kind: &str, version: &str) -> Artifact {
    if kind == "process" {
        return Artifact::Process(ProcessArtifact {
            command: format!("/bin/{version}"),
            args: Vec::new(),
            working_directory: None,
            limits: ProcessLimits::default(),
        });
    }
    Artifact::Image(ImageArtifact {
        image: format!("image:{version}"),
        digest: None,
        create_options: skerry_model::json::JsonObject::new(),
        pull: PullPolicy::OnCreate,
    })
}

/// Digests hold policy and order too, which clauses about what is there do not name: what runs the wanted artifact was made from
/// what is wanted.
fn adopt(manifest: &Manifest, observed: &mut Observed, artifacts: &[Artifact]) {
    for (module, artifact) in observed.modules.iter_mut().zip(artifacts) {
        if let Some(spec) = manifest.modules.get(&module.name).filter(|spec| spec.artifact == *artifact) {
            module.digest = Some(spec.digest());
        }
    }
    for underway in &mut observed.underway {
        let spec = manifest.modules.get(&underway.module);
        let plain = |spec: &ModuleSpec| ModuleSpec {
            restart: RestartPolicy::Always,
            startup_order: StartupOrder::LAST,
            ..spec.clone()
        };
        if let Some(spec) = spec.filter(|spec| Some(plain(spec).digest()) == underway.digest) {
            underway.digest = Some(spec.digest());
        }
    }
}

fn present(module: &str, words: &[&str]) -> (Artifact, ObservedModule, ModuleHistory) {
    let kind = words.iter().find(|word| matches!(**word, "docker" | "process")).copied().unwrap_or("docker");
    let spec = wanted(module, &[kind]);
    let mut present = ObservedModule {
        name: spec.name.clone(),
        kind: known_kind(kind),
        status: RuntimeStatus::Running,
        is_new: false,
        digest: Some(spec.digest()),
        has_old_identity: words.contains(&"old-identity"),
        started_at: Some(before_now("1s")),
        finished_at: None,
        was_stopped: false,
    };
    let mut past = ModuleHistory::default();
    let words: Vec<&str> =
        words.iter().copied().filter(|word| !matches!(*word, "docker" | "process" | "old-identity")).collect();
    match words[..] {
        ["running"] => {}
        ["new"] => (present.status, present.is_new, present.started_at) = (RuntimeStatus::Stopped, true, None),
        ["dead"] => present.status = RuntimeStatus::Dead,
        ["unknown"] => present.status = RuntimeStatus::Unknown,
        ["unhealthy"] => present.status = RuntimeStatus::Unhealthy,
        ["exited" | "was-stopped", code, ago, "ago"] => {
            present.was_stopped = words[0] == "was-stopped";
            present.status = if code == "0" { RuntimeStatus::Stopped } else { RuntimeStatus::Failed };
            present.finished_at = Some(before_now(ago));
            present.started_at = present.finished_at;
        }
        ["crashed", times, "times", "last", ago, "ago"] => {
            present.status = RuntimeStatus::Failed;
            present.finished_at = Some(before_now(ago));
            present.started_at = present.finished_at;
            past.restarts = times.parse::<u32>().unwrap() - 1;
        }
        ["restarted", times, "times", "up", span] => {
            present.started_at = Some(before_now(span));
            past.restarts = times.parse().unwrap();
        }
        _ => panic!("{words:?}"),
    }
    (spec.artifact, present, past)
}

fn known_kind(kind: &str) -> &'static str {
    if kind == "process" { "process" } else { "docker" }
}

fn before_now(span: &str) -> Timestamp {
    let seconds: i64 = span.strip_suffix('s').unwrap().parse().unwrap();
    Timestamp::from_unix_seconds(NOW.unix_seconds() - seconds)
}

fn told(plan: &Plan) -> String {
    let mut modules: Vec<(&ModuleName, Vec<String>)> = Vec::new();
    for step in &plan.steps {
        let action = match step.action {
            Action::Abandon => "abandon".to_owned(),
            Action::Prepare => "prepare".to_owned(),
            Action::Stop => "stop".to_owned(),
            Action::Remove => "remove".to_owned(),
            Action::Create => "create".to_owned(),
            Action::Start { counts: false } => "start".to_owned(),
            Action::Start { counts: true } => "restart".to_owned(),
            Action::Forgive => "forgive".to_owned(),
            Action::Wait { until } => {
                format!("wait {}s", until.since(NOW).saturating_sub(Duration::from_millis(1)).as_secs())
            }
        };
        match modules.last_mut() {
            Some((module, actions)) if *module == &step.module => actions.push(action),
            _ => modules.push((&step.module, vec![action])),
        }
    }
    modules
        .into_iter()
        .map(|(module, actions)| format!("{module}: {}", actions.join(", ")))
        .collect::<Vec<_>>()
        .join("; ")
}
