//! Batches made ahead by a background thread, in order.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use crate::DataError;

/// An iterator over batches that a background thread makes ahead. Dropping it stops the thread.
#[derive(Debug)]
pub struct Prefetch<B> {
    // An Option, so that Drop can close the channel before it waits for the thread.
    batches: Option<Receiver<Result<B, DataError>>>,
    thread: Option<JoinHandle<()>>,
}

/// Makes batches `start..n` with `make(i)` in a background thread, at most `depth` (at least 1) ahead of the
/// consumer.
///
/// Starting at batch `start` costs nothing: resuming an epoch is `prefetch(depth, done, n, make)`.
///
/// # Errors
/// [`DataError::Thread`] when the system gives no thread. An item is [`DataError::BatchPanicked`] when `make`
/// panicked; the iteration ends after it.
pub fn prefetch<B: Send + 'static>(
    depth: usize,
    start: usize,
    n: usize,
    make: impl Fn(usize) -> B + Send + 'static,
) -> Result<Prefetch<B>, DataError> {
    let (sender, batches) = sync_channel(depth.max(1));
    let work = move || {
        for index in start..n {
            // `make` is not called again after a panic, so a state it may have left broken is never seen.
            let batch = catch_unwind(AssertUnwindSafe(|| make(index))).map_err(|panic| {
                DataError::BatchPanicked {
                    index,
                    message: crate::guard::message(panic.as_ref()),
                }
            });
            let failed = batch.is_err();
            if sender.send(batch).is_err() || failed {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new()
        .name("rekindle-prefetch".to_owned())
        .spawn(work)
        .map_err(|source| DataError::Thread { source })?;
    Ok(Prefetch {
        batches: Some(batches),
        thread: Some(thread),
    })
}

impl<B> Iterator for Prefetch<B> {
    type Item = Result<B, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batches.as_ref()?.recv().ok()
    }
}

impl<B> Drop for Prefetch<B> {
    fn drop(&mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // The thread catches the panics of `make`; there is nothing to report here.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn starting_at_batch_k_equals_skipping_k() {
        for k in [0, 1, 5, 10, 11] {
            let resumed: Vec<usize> = prefetch(2, k, 10, |i| i * i)
                .unwrap()
                .map(Result::unwrap)
                .collect();
            let skipped: Vec<usize> = prefetch(3, 0, 10, |i| i * i)
                .unwrap()
                .map(Result::unwrap)
                .skip(k)
                .collect();
            assert_eq!(resumed, skipped, "k = {k}");
        }
    }

    #[test]
    fn a_panic_is_an_error_with_its_batch_and_ends_the_iteration() {
        let mut batches = prefetch(1, 0, 5, |i| {
            assert!(i != 2, "batch {i} is cursed");
            i
        })
        .unwrap();
        assert_eq!(batches.next().unwrap().unwrap(), 0);
        assert_eq!(batches.next().unwrap().unwrap(), 1);
        let error = batches.next().unwrap().unwrap_err();
        assert!(
            error
                .to_string()
                .contains("batch 2 could not be made: batch 2 is cursed"),
            "{error}"
        );
        assert!(batches.next().is_none());
    }

    #[test]
    fn no_more_than_depth_batches_are_made_ahead_and_dropping_stops_the_thread() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let mut batches = prefetch(3, 0, 1_000_000, move |i| {
            count.fetch_add(1, Ordering::SeqCst);
            i
        })
        .unwrap();
        batches.next();
        // Waits for the thread, so a thread that did not stop would hang the test.
        drop(batches);
        // One taken, three in the channel, one in the maker's hand, and one that may have slipped into the freed slot.
        assert!(made.load(Ordering::SeqCst) <= 6, "{made:?}");
        assert_eq!(Arc::strong_count(&made), 1);
    }
}
