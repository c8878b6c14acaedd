//! A lane as run files for the command line.

use crate::rollout::Raft;
use crate::schedule::Preference;

use super::settings::{BATCH, BUCKET, EPOCHS, HELD_OUT, JUDGE_RATE, LabSettings, LaneMethod, REJECTED_RIGHT, VALUE_RATE};

/// The folder into which the judge's run file writes.
const JUDGE: &str = "judge";

/// The run file with which `hbat train` repeats a lane: the same data, batches, rates and penalties, hence the same losses.
pub(super) fn run_file(settings: &LabSettings, method: LaneMethod) -> String {
    let LabSettings { subsets, beta, sft_learning_rate, dpo_learning_rate, .. } = settings;
    let label = method.label(*subsets);
    let before = match settings.is_judged(method) {
        true => format!("\n# Its judge comes first: `hbat train judge.toml --output {JUDGE}`."),
        false => String::new(),
    };
    let consolidation = settings.consolidation(method);
    let rule = serde_json::json!(consolidation.rule);
    let (lambda, f_max) = (consolidation.lambda, consolidation.f_max);
    let method_name = serde_json::json!(method.method());
    let sft_epochs = settings.sft_epochs(method);
    let preference = serde_json::json!(settings.preference);
    let (task, engine, dpo) = (task(settings), engine(settings), training(*dpo_learning_rate));
    let other = if method == LaneMethod::Sft { String::new() } else { other_than_dpo(settings) };
    format!(
        r#"# {label}, as the browser lab trained it: `hbat train` with this file repeats it.{before}
methods = [{method_name}]
{task}
[schedule]
subsets = {subsets}
preference = {preference}

[sft]
learning_rate = {sft_learning_rate:?}
decay = "cosine"
batch_size = {BATCH}
epochs = {sft_epochs}

[dpo]
beta = {beta:?}
{dpo}
{other}
[consolidation]
rule = {rule}
lambda = {lambda:?}
f_max = {f_max:?}
{engine}"#
    )
}

/// The run file with which `hbat train` repeats the judge, where there is one.
pub(super) fn judge_file(settings: &LabSettings) -> Option<String> {
    settings.lanes.iter().any(|&method| settings.is_judged(method)).then(|| {
        let (task, engine, reward) = (task(settings), engine(settings), training(JUDGE_RATE));
        format!(
            r#"# The judge of the browser lab: `hbat train` with this file and `--output {JUDGE}` repeats it.
methods = ["reward-model"]
{task}
[reward]
{reward}
{engine}"#
        )
    })
}

/// What the lab trains, and on what.
fn task(settings: &LabSettings) -> String {
    let LabSettings { seed, examples, .. } = settings;
    let (size, q_w, q_l) = (settings.model.name(), settings.chosen_right(), REJECTED_RIGHT);
    format!(
        r#"seed = {seed}
device = "cpu"

[model]
path = "toy"

[toy]
size = "{size}"
demonstrations = {examples}
preferences = {examples}
validation_demonstrations = {HELD_OUT}
validation_preferences = {HELD_OUT}
q_w = {q_w:?}
q_l = {q_l:?}
"#
    )
}

/// The section of the way in which preferences are taught, if it is not DPO's.
fn other_than_dpo(settings: &LabSettings) -> String {
    match settings.preference {
        Preference::Dpo => String::new(),
        Preference::Rrhf => format!("\n[rrhf]\n{}\n", training(settings.rrhf_learning_rate)),
        Preference::Ppo => ppo(settings),
        Preference::Raft => raft(settings),
    }
}

fn raft(settings: &LabSettings) -> String {
    let (Raft { answers, max_new_tokens, .. }, training) = (settings.raft(), training(settings.raft_learning_rate));
    format!(
        r#"
[raft]
reward_model = "{JUDGE}/last"
answers = {answers}
max_new_tokens = {max_new_tokens}
{training}
"#
    )
}

fn ppo(settings: &LabSettings) -> String {
    let (ppo, training) = (settings.ppo(), training(settings.ppo_learning_rate));
    let (kl_coefficient, cold_start, max_new_tokens) = (ppo.kl_coefficient, ppo.cold_start, ppo.max_new_tokens);
    format!(
        r#"
[ppo]
reward_model = "{JUDGE}/last"
value_learning_rate = {VALUE_RATE:?}
kl_coefficient = {kl_coefficient:?}
cold_start = {cold_start}
max_new_tokens = {max_new_tokens}
weight_decay = 0.0
{training}
"#
    )
}

/// How preferences are trained on, by whichever way.
fn training(learning_rate: f64) -> String {
    format!(
        r#"learning_rate = {learning_rate:?}
decay = "cosine"
warmup_steps = 0
warmup_ratio = 0.0
batch_size = {BATCH}
epochs = {EPOCHS}"#
    )
}

fn engine(settings: &LabSettings) -> String {
    let micro_batch = settings.trainer().micro_batch;
    format!(
        r#"
[engine]
micro_batch = {micro_batch}
bucket = {BUCKET}
"#
    )
}
