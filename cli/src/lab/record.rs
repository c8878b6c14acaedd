//! `hbat record`: a run of the lab as a file.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use hbat::compute::Compute;
use hbat::lab::{Frame, Lab, LabSettings, fields};
use hbat_backends::DeviceName;
use serde_json::{Value, json};

use super::LabCommandError;
use super::ends::{Ends, Standing};
use crate::args::Record;
use crate::report::Bar;
use crate::run::{Volume, compute};
use crate::signal::Interrupt;
use crate::store::{parent, replace_file};

/// Trains what was asked for, and writes it.
pub(crate) async fn record(options: &Record, volume: Volume) -> anyhow::Result<i32> {
    let settings = settings(&options.set)?;
    let compute = compute(DeviceName::Cpu)?;
    let interrupt = Interrupt::listen();
    // Before minutes of training.
    options.output.iter().chain(&options.ghosts).try_for_each(|path| check_output(path))?;
    if let (Some(output), Some(ghosts)) = (&options.output, &options.ghosts)
        && same(output, ghosts)
    {
        return Err(LabCommandError::Twice { path: ghosts.clone() }.into());
    }
    if let Some(output) = &options.output {
        let records = recording(settings.clone(), &compute, &interrupt).await?;
        write(output, &Value::Array(records))?;
    }
    if let Some(ghosts) = &options.ghosts {
        let ends = Ends::of(&settings, options.seeds, &compute, &interrupt).await?;
        write(ghosts, &ends.ghosts())?;
        if volume == Volume::Normal {
            write!(std::io::stdout(), "{ends}")?;
        }
    }
    Ok(0)
}

/// The header and every frame, the lanes abreast.
async fn recording(settings: LabSettings, compute: &Compute, interrupt: &Interrupt) -> anyhow::Result<Vec<Value>> {
    let mut lab = prepared(settings, compute, interrupt).await?;
    let header = lab.header();
    let steps = header.lanes.iter().flat_map(|lane| &lane.phases).map(|phase| phase.steps).sum::<usize>();
    let mut bar = Bar::items("steps", steps as u64);
    let mut records = vec![json!(header)];
    let mut open: Vec<usize> = (0..header.lanes.len()).collect();
    while !open.is_empty() {
        for &lane in &open {
            for frame in step(&mut lab, lane, interrupt).await? {
                bar.advance(u64::from(matches!(frame, Frame::Step { .. })));
                records.push(json!(frame));
            }
        }
        open.retain(|&lane| !lab.finished(lane).unwrap_or(true));
    }
    records.iter_mut().for_each(round);
    Ok(records)
}

/// A lab whose judge, if it has one, is trained.
async fn prepared(settings: LabSettings, compute: &Compute, interrupt: &Interrupt) -> anyhow::Result<Lab> {
    let mut bar = None;
    let mut progress = |_, total: usize| {
        bar.get_or_insert_with(|| Bar::items("judge", total as u64)).advance(1);
        Ok(interrupt.check()?)
    };
    Lab::prepared(settings, compute.clone(), &mut progress).await
}

/// A lane's frames up to its next step, or to its end.
async fn step(lab: &mut Lab, lane: usize, interrupt: &Interrupt) -> anyhow::Result<Vec<Frame>> {
    let mut frames = Vec::new();
    while !frames.iter().any(|frame| matches!(frame, Frame::Step { .. } | Frame::Finished { .. })) {
        interrupt.check()?;
        frames.extend(lab.advance(lane).await?);
    }
    Ok(frames)
}

/// Where every lane stands at its end.
pub(super) async fn ends(settings: LabSettings, compute: &Compute, interrupt: &Interrupt) -> anyhow::Result<Vec<Standing>> {
    let mut lab = prepared(settings, compute, interrupt).await?;
    let mut standings = Vec::new();
    for (lane, header) in lab.header().lanes.into_iter().enumerate() {
        let mut last = None;
        while !lab.finished(lane)? {
            for frame in step(&mut lab, lane, interrupt).await? {
                if let Frame::Moment(moment) = frame {
                    last = Some(*moment);
                }
            }
        }
        let moment = last.context("a lane begins with a moment")?;
        standings.push(Standing { method: header.method, label: header.label, moment });
    }
    Ok(standings)
}

/// The lab's defaults, changed by assignments.
fn settings(assignments: &[String]) -> Result<LabSettings, LabCommandError> {
    let mut values = json!(LabSettings::default());
    for given in assignments {
        let keys = || fields().iter().map(|field| field.name).collect::<Vec<_>>().join(", ");
        let wrong = || LabCommandError::Assignment { given: given.clone(), keys: keys() };
        let (key, value) = given.split_once('=').ok_or_else(wrong)?;
        let slot = values.get_mut(key.trim()).ok_or_else(wrong)?;
        // Words need no quotes.
        *slot = serde_json::from_str(value.trim()).unwrap_or_else(|_| value.trim().into());
        serde_json::from_value::<LabSettings>(values.clone())
            .map_err(|error| LabCommandError::Value { given: given.clone(), reason: error.to_string() })?;
    }
    serde_json::from_value(values)
        .map_err(|error| LabCommandError::Value { given: assignments.join(" "), reason: error.to_string() })
}

/// Leaves six digits of every fraction: more is not seen, and makes the file larger.
fn round(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(round),
        Value::Object(values) => values.values_mut().for_each(round),
        Value::Number(number) if number.is_f64() => {
            let rounded = number.as_f64().and_then(|number| format!("{number:.5e}").parse::<f64>().ok());
            *value = json!(rounded);
        }
        _ => {}
    }
}

/// Refuses a file that cannot be written, without touching it.
fn check_output(path: &Path) -> Result<(), LabCommandError> {
    let path = meant(path);
    let checked = match std::fs::metadata(&path) {
        Ok(there) if there.is_dir() => Err(std::io::ErrorKind::IsADirectory.into()),
        Ok(there) if !there.is_file() => Ok(()),
        _ => tempfile::tempfile_in(parent(&path)).map(drop),
    };
    checked.map_err(|reason| LabCommandError::Output { path, reason })
}

/// What a path stands for where it is a link: that is replaced, and the link stays.
fn meant(path: &Path) -> PathBuf {
    let target = |path: &Path| Some(parent(path).join(std::fs::read_link(path).ok()?));
    std::fs::canonicalize(path).ok().or_else(|| target(path)).unwrap_or_else(|| path.to_path_buf())
}

/// Whether two paths are one file, which need not be there yet.
fn same(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| {
        let path = meant(path);
        (std::fs::canonicalize(parent(&path)).ok(), path.file_name().map(ToOwned::to_owned))
    };
    place(one) == place(other) && std::fs::metadata(one).map_or(true, |there| there.is_file())
}

fn write(path: &Path, value: &Value) -> anyhow::Result<()> {
    let (path, text) = (meant(path), serde_json::to_vec(value).context("as JSON")?);
    match std::fs::metadata(&path).is_ok_and(|there| !there.is_file()) {
        // A device or a pipe takes what is written, and is not replaced.
        true => std::fs::write(&path, &text).map_err(|reason| LabCommandError::Output { path, reason })?,
        false => replace_file(&path, &text)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(assignment: &str, expect: &str) {
        let error = settings(&[assignment.to_owned()]).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn settings_are_changed_by_name_and_words_need_no_quotes() {
        let changed = settings(&["model=small".into(), "beta=0.3".into(), r#"lanes=["mix"]"#.into()]).unwrap();
        assert_eq!((changed.model.name(), changed.beta, changed.lanes.len()), ("small", 0.3, 1));
        refused("betta=1", "the keys are: seed, model");
        refused("beta", "write KEY=VALUE");
        refused("beta=high", "--set beta=high: invalid type");
        refused("model=huge", "unknown variant `huge`, expected one of `tiny`");
    }

    #[test]
    fn six_digits_of_fractions_stay_and_whole_numbers_are_left_alone() {
        let mut value = json!({"a": [0.123456789, 1.23456789e-12, 2.0], "n": 123456789, "t": "0.123456789"});
        round(&mut value);
        assert_eq!(value.to_string(), r#"{"a":[0.123457,1.23457e-12,2.0],"n":123456789,"t":"0.123456789"}"#);
    }
}
