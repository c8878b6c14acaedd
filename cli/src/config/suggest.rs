//! What an unknown key or word may have been meant to be.

use super::defaults;

/// What the same settings are called elsewhere (TRL, torchtune, LLaMA-Factory, the paper), by the last part of our keys or
/// by the whole key.
const MEANT: [(&str, &str); 49] = [
    ("adam_beta1", "betas"),
    ("adam_beta2", "betas"),
    ("adam_betas", "betas"),
    ("adam_epsilon", "eps"),
    ("batch", "batch_size"),
    ("chat_template", "data.template"),
    ("chosen_right", "toy.q_w"),
    ("clip", "max_grad_norm"),
    ("clip_grad_norm", "max_grad_norm"),
    ("cutoff_len", "data.max_length"),
    ("eval_steps", "validation.every"),
    ("eval_every", "validation.every"),
    ("fmax", "f_max"),
    ("format", "data.demonstration_format"),
    ("grad_clip", "max_grad_norm"),
    ("gradient_accumulation_steps", "engine.micro_batch"),
    ("gradient_checkpointing", "engine.kind"),
    ("lr", "learning_rate"),
    ("lr_scheduler", "decay"),
    ("lr_scheduler_type", "decay"),
    ("max_len", "data.max_length"),
    ("max_seq_len", "data.max_length"),
    ("max_seq_length", "data.max_length"),
    ("method", "methods"),
    ("micro_batch_size", "engine.micro_batch"),
    ("model_name_or_path", "model.path"),
    ("n", "schedule.subsets"),
    ("n_subsets", "schedule.subsets"),
    ("num_epochs", "epochs"),
    ("num_train_epochs", "epochs"),
    ("optimizer", "sft.betas"),
    ("order", "data.shuffle"),
    ("output_dir", "output"),
    ("per_device_train_batch_size", "engine.micro_batch"),
    ("rejected_right", "toy.q_l"),
    ("rounds", "schedule.subsets"),
    ("run_name", "name"),
    ("save_dtype", "checkpoints.export_dtype"),
    ("save_every", "checkpoints.every"),
    ("save_steps", "checkpoints.every"),
    ("save_total_limit", "checkpoints.keep"),
    ("scheduler", "decay"),
    ("splits", "schedule.subsets"),
    ("tf32", "engine.products"),
    ("train_file", "data.demonstrations"),
    ("validation_demonstrations", "validation.demonstrations"),
    ("validation_preferences", "validation.preferences"),
    ("warmup", "warmup_steps"),
    ("warmup_fraction", "warmup_ratio"),
];

/// What to write instead of an unknown key, in words.
pub(super) fn instead_of(key: &str) -> String {
    let keys = defaults::keys(defaults::TEXT);
    let found = meant(key, &keys);
    if !found.is_empty() {
        return format!("did you mean {}?", or(&found));
    }
    let (section, last) = key.rsplit_once('.').unwrap_or(("", key));
    let siblings = siblings(section, &keys);
    match nearest(last, siblings.iter().copied()) {
        Some(near) => format!("did you mean `{}`?", defaults::join(section, near)),
        None if section.is_empty() || siblings.is_empty() => "`hbat recipes cat toy` shows every key".to_owned(),
        None => format!("[{section}] has {}", siblings.join(", ")),
    }
}

/// The most similar of some names, if one is similar: mostly the same, or one slip away.
pub(super) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let score = |known: &str| match strsim::damerau_levenshtein(known, &name) {
        0 => 2.0,
        1 if known.len() > 2 => 1.0,
        _ => strsim::jaro_winkler(known, &name),
    };
    let similar = names.map(|known| (score(known), known));
    similar.filter(|(score, _)| *score > 0.84).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}

/// Settings known elsewhere under this key's last part, or here under another section.
fn meant<'a>(key: &str, keys: &'a [String]) -> Vec<&'a str> {
    let (section, last) = key.rsplit_once('.').unwrap_or(("", key));
    let ours = MEANT.iter().find(|(foreign, _)| *foreign == last).map_or(last, |(_, ours)| ours);
    let sibling = defaults::join(section, ours);
    let found = |test: &dyn Fn(&str) -> bool| keys.iter().map(String::as_str).filter(|known| test(known)).collect::<Vec<_>>();
    let exact = found(&|known| known == sibling || known == ours);
    if exact.is_empty() { found(&|known| known.rsplit('.').next() == Some(ours)) } else { exact }
}

/// The keys of a section; at the top, the sections too.
fn siblings<'a>(section: &str, keys: &'a [String]) -> Vec<&'a str> {
    let inside = keys.iter().filter_map(|known| match known.rsplit_once('.') {
        Some((theirs, last)) if theirs == section => Some(last),
        Some((theirs, _)) if section.is_empty() => Some(theirs),
        None if section.is_empty() => Some(known.as_str()),
        _ => None,
    });
    let mut inside: Vec<&str> = inside.collect();
    inside.dedup();
    inside
}

fn or(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(key: &str, expect: &str) {
        assert_eq!(instead_of(key), expect);
    }

    #[test]
    fn misspelt_keys_are_recognised() {
        check("sft.learnin_rate", "did you mean `sft.learning_rate`?");
        check("consolidaton.lambda", "did you mean `consolidation.lambda`?");
        check("stf", "did you mean `sft`?");
        check("sede", "did you mean `seed`?");
        check("chekpoints", "did you mean `checkpoints`?");
        check("dpo.Beta", "did you mean `dpo.beta`?");
    }

    #[test]
    fn other_programs_names_are_recognised() {
        check("sft.lr", "did you mean `sft.learning_rate`?");
        check("dpo.num_train_epochs", "did you mean `dpo.epochs`?");
        let every = ["sft", "dpo", "ppo", "rrhf", "raft", "reward"].map(|section| format!("`{section}.learning_rate`"));
        check("lr", &format!("did you mean {}?", every.join(" or ")));
        check("data.max_seq_length", "did you mean `data.max_length`?");
        check("output_dir", "did you mean `output`?");
    }

    #[test]
    fn keys_in_the_wrong_section_are_recognised() {
        check("schedule.lambda", "did you mean `consolidation.lambda`?");
        check("micro_batch", "did you mean `engine.micro_batch`?");
    }

    #[test]
    fn otherwise_the_sections_keys_are_listed() {
        check(
            "engine.zzz",
            "[engine] has kind, micro_batch, bucket, pack, weights, products, matmul, kernels, moments, sums, offload, layer_inputs, update",
        );
        check("zzz", "`hbat recipes cat toy` shows every key");
    }

    #[test]
    fn what_is_meant_exists() {
        let keys = defaults::keys(defaults::TEXT);
        let exists = |ours: &str| keys.iter().any(|key| key == ours || key.rsplit('.').next() == Some(ours));
        assert!(MEANT.iter().all(|(_, ours)| exists(ours)));
        assert!(MEANT.iter().all(|(foreign, _)| !keys.contains(&(*foreign).to_owned())));
    }
}
