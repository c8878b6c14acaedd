//! Devices that fail in the middle of a run: out of memory, or gone.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::pin;
use std::task::Poll;

use hbat::error::Error;

use super::needs::Needs;
use crate::config::Plan;
use crate::report::{quoted, size};

thread_local! {
    /// Whether a panic on this thread will be caught and told in words.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    /// Where in this program the last such panic came from, in brackets; nothing if it came from a library.
    static PLACE: Cell<String> = const { Cell::new(String::new()) };
}

/// Awaits a future; a panic in it, which is how Burn reports a device that fails, becomes an error.
pub(crate) async fn guarded<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    quieten();
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        let outside = GUARDED.replace(true);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        GUARDED.set(outside);
        polled.unwrap_or_else(|panic| Poll::Ready(Err(Error::Device(words(&*panic) + &PLACE.take()).into())))
    })
    .await
}

/// Lets panics that are caught pass without a word, unless a backtrace is asked for.
fn quieten() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let place = panic.location().filter(|place| Path::new(place.file()).is_relative());
            PLACE.set(place.map_or_else(String::new, |place| format!(" ({place})")));
            if !GUARDED.get() || std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
                usual(panic);
            }
        }));
    });
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it gave no reason").to_owned()
}

/// Where a run lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The directory that `hbat resume` goes on with.
    pub(super) whole: &'a Path,
    /// That of the method that failed.
    pub(super) checkpoints: &'a Path,
}

/// Says what to do about a device that failed in a phase; other errors stay what they are.
pub(super) fn explained(
    error: anyhow::Error,
    (plan, needs): (&Plan, anyhow::Result<Needs>),
    phase: &str,
    place: Place<'_>,
) -> anyhow::Error {
    let Some(Error::Device(reason)) = error.downcast_ref::<Error>() else { return error };
    let error = anyhow::Error::from(Error::Device(in_a_line(reason)));
    let device = plan.device;
    let run = place.whole.display();
    let goes_on = match saved(place.checkpoints) {
        true => format!("the last checkpoint is untouched: go on with `hbat resume {}`", quoted(place.whole)),
        false => format!("nothing was saved yet: begin anew with `hbat resume {}`", quoted(place.whole)),
    };
    if !of_memory(reason) {
        return error.context(format!("{device} failed in phase {phase}; {goes_on}, or on another device with `--device`"));
    }
    let remedy = match &needs {
        Ok(needs) => remedy(plan, needs, phase),
        Err(_) => "`hbat plan` says what takes how much".into(),
    };
    error.context(format!("{device} ran out of memory in phase {phase}; {remedy}; change it in {run}/config.toml, and {goes_on}"))
}

/// Whether a run has any checkpoint.
fn saved(run: &Path) -> bool {
    std::fs::read_dir(run.join("checkpoints")).is_ok_and(|mut entries| entries.next().is_some())
}

/// Burn's report of a failure goes through all who passed it on, in a line for each: the first and where it came from are told.
fn in_a_line(reason: &str) -> String {
    let said =
        |line: &&str| !line.is_empty() && !["Caused by:", "Asked at:", "Backtrace:", "No backtrace available"].contains(line);
    let lines: Vec<&str> = reason.lines().map(str::trim).filter(said).collect();
    match lines[..] {
        [first, .., before, last] if lines.len() > 4 => [first, "…", before, last].join(": "),
        _ => lines.join(": "),
    }
}

/// Whether a device's words are about memory.
fn of_memory(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    let words = ["out of memory", "out of device memory", "outofmemory", "out_of_memory", "buffertoobig", "too big"];
    let more = ["not enough memory", "can't allocate", "cannot allocate", "failed to allocate"];
    words.iter().chain(&more).any(|words| reason.contains(words))
}

/// What takes the most memory, and the first setting that takes less.
fn remedy(plan: &Plan, needs: &Needs, phase: &str) -> String {
    let found = needs.methods.iter().flat_map(|method| &method.phases).find(|budget| budget.phase == phase);
    let largest = found.and_then(|budget| budget.peak.parts().into_iter().max_by_key(|(_, bytes)| *bytes));
    let largest =
        largest.map_or(String::new(), |(name, bytes)| format!("most of it, about {}, goes to {name}; ", size(bytes as u64)));
    match needs.less(plan) {
        Some((words, peak)) => format!("{largest}with {words} it would need about {}", size(peak)),
        None => format!("{largest}no setting takes less: take a smaller model or another device"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Request};

    fn explain(reason: &str, run: &Path) -> String {
        let plan = config::resolve(&Request { set: vec!["engine.kind=\"whole\"".into()], ..Request::default() }).unwrap();
        let needs = Needs::of(&plan);
        let error = anyhow::Error::from(Error::Device(reason.into()));
        format!("{:#}", explained(error, (&plan, needs), "dpo-2", Place { whole: run, checkpoints: run }))
    }

    #[test]
    fn out_of_memory_names_what_takes_it_and_what_takes_less() {
        let text = explain("OutOfMemory { size: 17179869184 }", Path::new("runs/a"));
        for part in [
            "cpu ran out of memory in phase dpo-2",
            "goes to",
            "engine.kind = \"segmented\"",
            "hbat resume runs/a",
            "17179869184",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // As wgpu puts it.
        let text = explain("can't allocate buffer of size: 150994944", Path::new("runs/a"));
        assert!(text.contains("cpu ran out of memory in phase dpo-2; most of it"), "{text}");
        // As CubeCL puts it on a card.
        let text =
            explain("An IO error happened\nCaused by:\n  out of device memory allocating 2097152 bytes", Path::new("runs/a"));
        assert!(text.contains("cpu ran out of memory in phase dpo-2; most of it"), "{text}");
    }

    #[test]
    fn a_device_that_is_gone_leaves_the_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let text = explain("CUDA_ERROR_ECC_UNCORRECTABLE", folder.path());
        assert!(text.contains("nothing was saved yet: begin anew with `hbat resume"), "{text}");
        std::fs::create_dir_all(folder.path().join("checkpoints/000001-sft-1-0")).unwrap();
        let text = explain("CUDA_ERROR_ECC_UNCORRECTABLE", folder.path());
        assert!(text.contains("the last checkpoint is untouched") && text.contains("--device"), "{text}");
        let text = explain(
            "The device is poisoned\nCaused by:\n  cuLaunchKernel failed with status 700\nBacktrace:\nNo backtrace available\n",
            folder.path(),
        );
        assert!(text.ends_with("the device failed: The device is poisoned: cuLaunchKernel failed with status 700"), "{text}");
        let other = explained(
            anyhow::anyhow!("another"),
            (&config::resolve(&Request::default()).unwrap(), Err(anyhow::anyhow!(""))),
            "",
            Place { whole: Path::new(""), checkpoints: Path::new("") },
        );
        assert_eq!(other.to_string(), "another");
    }

    #[test]
    fn a_panic_becomes_words() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let error = runtime.block_on(guarded(async { panic!("lost {}", 3) as anyhow::Result<()> })).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("the device failed: lost 3 (cli/src/run/failure.rs:"), "{text}");
        assert_eq!(runtime.block_on(guarded(async { Ok(1) })).unwrap(), 1);
    }
}
