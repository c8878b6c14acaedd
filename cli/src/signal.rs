//! Stopping on request: the first signal asks the run to save and end, the second ends it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

/// The exit code of an interrupted run, as shells count it: 128 + SIGINT.
pub const INTERRUPTED: i32 = 130;

/// How long nobody notices.
const PATIENCE: Duration = Duration::from_millis(50);

/// Work that was given up because a signal came; nothing is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Whether someone asked the program to stop.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens for SIGINT and SIGTERM, on a thread of its own: training steps block the main one for seconds. From when this
    /// returns, no signal is missed.
    pub fn listen() -> Self {
        let interrupt = Self::default();
        let seen = interrupt.clone();
        let (ready, caught) = channel::<()>();
        std::thread::spawn(move || seen.watch(ready));
        // The other end is dropped once signals are caught, or cannot be.
        let _ = caught.recv();
        interrupt
    }

    /// Whether a signal has come.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns once a signal has come, for work that waits for others.
    pub async fn wait(&self) {
        while !self.requested() {
            tokio::time::sleep(PATIENCE).await;
        }
    }

    /// An error once a signal has come, for work in many small parts.
    ///
    /// # Errors
    /// [`Interrupted`] if it has.
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.requested() { Err(Interrupted) } else { Ok(()) }
    }

    fn watch(&self, ready: Sender<()>) {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            drop(ready);
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if self.0.swap(true, Ordering::Relaxed) {
                    std::process::exit(INTERRUPTED);
                }
            }
        });
    }
}
