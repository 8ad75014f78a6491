//! Calls into dependencies that panic on damaged files.
//!
//! A panic there means "this file is not as it should be", so it becomes an error that names the file. The process's
//! panic hook must not print it (or, as a program's own hook may, end the process): a hook of ours, installed once in
//! front of the one that stands, keeps quiet on a thread that is inside [`guarded`], and on no other.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// How many calls of [`guarded`] this thread is inside of.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

static HOOK: Once = Once::new();

/// Runs `work`; a panic in it is an error with the panic's message.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    HOOK.call_once(|| {
        let standing = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // A thread that is being torn down has no flag and is not inside a guarded call.
            if DEPTH.try_with(Cell::get).unwrap_or(0) == 0 {
                standing(info);
            }
        }));
    });
    DEPTH.with(|depth| depth.set(depth.get() + 1));
    // What `work` borrowed is not used after a panic: every caller gives up the file.
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    DEPTH.with(|depth| depth.set(depth.get() - 1));
    result.map_err(|panic| message(panic.as_ref()))
}

/// The text of a panic.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_panic_is_an_error_and_other_threads_keep_the_hook() {
        static SEEN: AtomicUsize = AtomicUsize::new(0);
        // Installs our hook; one that is set afterwards would stand before it, so this test only looks at ours.
        assert_eq!(guarded(|| 1), Ok(1));
        assert_eq!(
            guarded(|| -> u8 { panic!("at {}", 7) }),
            Err("at 7".to_owned())
        );
        assert_eq!(
            guarded(|| guarded(|| -> u8 { panic!("inner") })),
            Ok(Err("inner".to_owned()))
        );
        assert_eq!(DEPTH.with(Cell::get), 0);
        let other = std::thread::spawn(|| {
            SEEN.fetch_add(DEPTH.with(Cell::get) + 1, Ordering::Relaxed);
        });
        let _ = guarded(|| other.join().is_ok());
        assert_eq!(
            SEEN.load(Ordering::Relaxed),
            1,
            "another thread is not inside"
        );
    }
}
