//! Work that goes on beside training.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::anyhow;

/// What a thread brings about, for all who wait for it.
#[derive(Debug)]
pub(super) struct Meanwhile<T> {
    /// In words where it failed.
    result: OnceLock<Result<T, String>>,
    /// Why it failed, until somebody has asked.
    error: Mutex<Option<anyhow::Error>>,
}

impl<T: Send + Sync + 'static> Meanwhile<T> {
    /// What is there already.
    pub(super) fn there(result: T) -> Arc<Self> {
        Arc::new(Self { result: OnceLock::from(Ok(result)), error: Mutex::default() })
    }

    /// Begins work on a thread of its own.
    pub(super) fn begin(work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> Arc<Self> {
        let begun = Arc::new(Self { result: OnceLock::new(), error: Mutex::default() });
        let told = begun.clone();
        std::thread::spawn(move || {
            // A panic has said on its way what it is about.
            let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(anyhow!("it failed without a reason")));
            told.tell(result);
        });
        begun
    }

    fn tell(&self, result: anyhow::Result<T>) {
        let result = result.map_err(|error| {
            let words = format!("{error:#}");
            *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            words
        });
        let _ = self.result.set(result);
    }

    /// Whether it is there, or will not come. Waits for nobody.
    pub(super) fn is_settled(&self) -> bool {
        self.result.get().is_some()
    }

    /// Waits for it.
    ///
    /// # Errors
    /// The work's own for who asks first, its words for all others.
    pub(super) fn result(&self) -> anyhow::Result<&T> {
        self.result.wait().as_ref().map_err(|words| {
            let error = self.error.lock().unwrap_or_else(PoisonError::into_inner).take();
            error.unwrap_or_else(|| anyhow!("{words}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Interrupted;

    #[test]
    fn whether_it_is_there_is_told_while_somebody_waits() {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let slow = Meanwhile::begin(move || Ok(wait.recv()?));
        let waiting = slow.clone();
        let waits = std::thread::spawn(move || waiting.result().copied());
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(!slow.is_settled());
        go.send(()).unwrap();
        waits.join().unwrap().unwrap();
        assert!(slow.is_settled());
    }

    #[test]
    fn all_who_wait_hear_what_came_of_it_and_the_first_its_own_error() {
        let good = Meanwhile::begin(|| Ok(7));
        assert_eq!([*good.result().unwrap(), *good.result().unwrap()], [7, 7]);
        assert!(good.is_settled() && Meanwhile::there(1).is_settled());
        let bad = Meanwhile::<u8>::begin(|| Err(anyhow::Error::from(Interrupted).context("saving")));
        assert!(bad.result().unwrap_err().is::<Interrupted>());
        let words = bad.result().unwrap_err();
        assert!(!words.is::<Interrupted>() && words.to_string() == "saving: interrupted", "{words}");
        let lost = Meanwhile::<u8>::begin(|| panic!("of a thread that is meant to"));
        assert_eq!(lost.result().unwrap_err().to_string(), "it failed without a reason");
    }
}
