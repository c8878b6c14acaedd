//! A lane as a run file for the command line.

use super::settings::{BATCH, BUCKET, EPOCHS, HELD_OUT, LabSettings, LaneMethod, REJECTED_RIGHT};

/// The run file with which `hbat train` repeats a lane: the same data, batches, rates and penalties, hence the same losses.
pub(super) fn run_file(settings: &LabSettings, method: LaneMethod) -> String {
    let LabSettings { seed, subsets, examples, beta, sft_learning_rate, dpo_learning_rate, .. } = settings;
    let (size, label) = (settings.model.name(), method.label(*subsets));
    let consolidation = settings.consolidation(method);
    let rule = serde_json::json!(consolidation.rule);
    let (lambda, f_max) = (consolidation.lambda, consolidation.f_max);
    let method_name = serde_json::json!(method.method());
    let (q_w, q_l, sft_epochs) = (settings.chosen_right(), REJECTED_RIGHT, settings.sft_epochs(method));
    let micro_batch = settings.trainer().micro_batch;
    format!(
        r#"# {label}, as the browser lab trained it: `hbat train` with this file repeats it.
seed = {seed}
device = "cpu"
methods = [{method_name}]

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

[schedule]
subsets = {subsets}

[sft]
learning_rate = {sft_learning_rate:?}
decay = "cosine"
batch_size = {BATCH}
epochs = {sft_epochs}

[dpo]
learning_rate = {dpo_learning_rate:?}
beta = {beta:?}
decay = "cosine"
warmup_steps = 0
warmup_ratio = 0.0
batch_size = {BATCH}
epochs = {EPOCHS}

[consolidation]
rule = {rule}
lambda = {lambda:?}
f_max = {f_max:?}

[engine]
micro_batch = {micro_batch}
bucket = {BUCKET}
"#
    )
}
