//! Work that goes on beside training.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use anyhow::anyhow;

/// What a thread brings about, for all who wait for it.
#[derive(Debug)]
pub(super) struct Meanwhile<T> {
    thread: Mutex<Option<JoinHandle<anyhow::Result<T>>>>,
    result: OnceLock<Result<T, String>>,
}

impl<T: Send + 'static> Meanwhile<T> {
    /// What is there already.
    pub(super) fn there(result: T) -> Arc<Self> {
        Arc::new(Self { thread: Mutex::new(None), result: OnceLock::from(Ok(result)) })
    }

    /// Begins work on a thread of its own.
    pub(super) fn begin(work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> Arc<Self> {
        Arc::new(Self { thread: Mutex::new(Some(std::thread::spawn(work))), result: OnceLock::new() })
    }

    /// Whether it is there, or will not come.
    pub(super) fn is_settled(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for it.
    ///
    /// # Errors
    /// The work's own for who asks first, its words for all others.
    pub(super) fn result(&self) -> anyhow::Result<&T> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            let failed = match thread.join() {
                Ok(Ok(result)) => return Ok(self.result.get_or_init(|| Ok(result)).as_ref().expect("it was just put there")),
                Ok(Err(error)) => error,
                Err(_) => anyhow!("it failed without a reason"),
            };
            let _ = self.result.set(Err(format!("{failed:#}")));
            return Err(failed);
        }
        match self.result.get() {
            Some(Ok(result)) => Ok(result),
            Some(Err(reason)) => Err(anyhow!("{reason}")),
            None => Err(anyhow!("it failed without a reason")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Interrupted;

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
