//! What a run needs, in words and columns.

use console::{Alignment, pad_str};

use super::phrase::{clock, count, size as bytes};
use crate::run::{Needs, Speed};

/// Steps, tokens, arithmetic, time and memory of every phase; the parts of the largest; disk.
pub fn needs_text(needs: &Needs, speed: &Speed) -> String {
    let mut rows = vec![["method", "phase", "steps", "tokens", "TFLOP", "time", "memory"].map(String::from)];
    let weights = needs.weights();
    let (mut seconds, mut steps) = (0.0, 0);
    for (method, phase) in needs.methods.iter().flat_map(|m| m.phases.iter().map(move |phase| (&m.method, phase))) {
        let time = speed.seconds(phase, weights);
        seconds += time;
        steps += phase.steps;
        rows.push([
            method.clone(),
            phase.phase.clone(),
            count(phase.steps as f64),
            count((phase.tokens + phase.reference_tokens) as f64),
            format!("{:.3}", phase.flops / 1e12),
            clock(time),
            bytes(phase.peak.total() as u64),
        ]);
    }
    let mut text = columns(&rows, 2);
    let source = if speed.updates.is_some() { "measured on one layer" } else { "as stated" };
    let gflops = count(speed.flops / 1e9);
    text += &format!(
        "\n{} steps in about {} at {gflops} GFLOP/s, {source}; evaluation and saving come on top\n",
        count(steps as f64),
        clock(seconds)
    );
    text + &memory_text(needs) + &disk_text(needs)
}

/// One line for the beginning of a run.
pub fn needs_line(needs: &Needs) -> String {
    let peak = needs.peak().map_or(0, |(_, phase)| phase.peak.total() as u64);
    let of = needs.available.map_or_else(String::new, |available| format!(" of {}", bytes(available)));
    let methods = needs.methods.len() as u64;
    format!(
        "needs about {}{of} of memory on {}, and up to {} of disk",
        bytes(peak),
        needs.device,
        bytes(methods * needs.disk.total())
    )
}

fn memory_text(needs: &Needs) -> String {
    let Some((method, phase)) = needs.peak() else { return String::new() };
    let mut text = format!("\nmemory at its peak, in phase {} of {method}:\n", phase.phase);
    let parts = phase.peak.parts().into_iter().filter(|(_, bytes)| *bytes > 0);
    let rows: Vec<[String; 2]> =
        parts.chain([("together", phase.peak.total())]).map(|(name, b)| [format!("  {name}"), bytes(b as u64)]).collect();
    text += &columns(&rows, 1);
    if phase.host > 0 {
        text += &format!("and {} of the host's memory, for what is offloaded\n", bytes(phase.host as u64));
    }
    let available =
        needs.available.map_or_else(|| "does not say what it has for it".into(), |free| format!("has {} for it", bytes(free)));
    text + &format!("{} {available}\n", needs.device)
}

fn disk_text(needs: &Needs) -> String {
    let disk = needs.disk;
    let each = if needs.methods.len() > 1 { " for each method" } else { "" };
    let (all, one, models) = (bytes(disk.total()), bytes(disk.checkpoint), bytes(disk.models));
    let references =
        if disk.references > 0 { format!(", reference log-probabilities {}", bytes(disk.references)) } else { String::new() };
    let free = needs.free_disk.map_or_else(String::new, |free| format!("; {} are free", bytes(free)));
    format!("\ndisk: up to {all}{each}; a checkpoint takes {one}, best/ and last/ {models}{references}{free}\n")
}

/// Columns side by side: so many of words, aligned on the left, then numbers.
fn columns<const N: usize>(rows: &[[String; N]], words: usize) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let cell = |(column, text): (usize, &String)| {
        let side = if column < words { Alignment::Left } else { Alignment::Right };
        pad_str(text, width(column), side, None).into_owned()
    };
    rows.iter().map(|row| row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end().to_string() + "\n").collect()
}
