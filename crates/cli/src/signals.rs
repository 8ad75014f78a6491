//! What asks a run to stop: Ctrl-C, SIGTERM (a scheduler or a shutdown), SIGHUP (a terminal that closes).

use crate::printer;
use std::sync::atomic::{AtomicBool, Ordering};

/// Calls `handler` whenever one of them comes. A SIGHUP that is ignored when the program starts, as under `nohup`, stays so.
pub fn on_stop(handler: impl FnMut() + Send + 'static) -> Result<(), ctrlc::Error> {
    let under_nohup = ignore_hangup();
    ctrlc::set_handler(handler)?;
    remember::install();
    if under_nohup {
        ignore_hangup();
    }
    Ok(())
}

/// Ends the program when one of them comes; what it was writing is removed. A second call changes nothing.
pub fn discard_on_stop() -> Result<(), ctrlc::Error> {
    static IS_SET: AtomicBool = AtomicBool::new(false);
    if IS_SET.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    on_stop(|| {
        rekindle::discard_unfinished();
        printer::to_stderr("stopped: the file that was being written is removed");
        std::process::exit(exit_code().into());
    })
}

/// Ignores SIGHUP, and says whether it was ignored before.
#[cfg(unix)]
#[allow(unsafe_code)]
fn ignore_hangup() -> bool {
    // SAFETY: the call sets how one signal is taken; no handler of ours runs, and no memory is shared.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) == libc::SIG_IGN }
}

#[cfg(not(unix))]
fn ignore_hangup() -> bool {
    false
}

/// 128 and the number of the first signal that came, as shells count; 130 where none is known.
pub fn exit_code() -> u8 {
    const CTRL_C: u8 = 130;
    remember::first().map_or(CTRL_C, |signal| 128 + signal)
}

/// Which signal came first: the crate that calls our handler does not tell.
#[cfg(unix)]
#[allow(unsafe_code)]
mod remember {
    use libc::{SIGHUP, SIGINT, SIGTERM, c_int, sigaction};
    use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

    const SIGNALS: [c_int; 3] = [SIGINT, SIGTERM, SIGHUP];
    static FIRST: AtomicI32 = AtomicI32::new(0);
    /// The handler that was there before, one for all three.
    static NEXT: AtomicUsize = AtomicUsize::new(0);

    pub fn first() -> Option<u8> {
        u8::try_from(FIRST.load(Ordering::SeqCst))
            .ok()
            .filter(|&signal| signal > 0)
    }

    /// Puts [`note`] before the handler of each signal.
    pub fn install() {
        for signal in SIGNALS {
            // SAFETY: both structures are valid for the call; all zeros is a valid `sigaction`.
            unsafe {
                let mut action: sigaction = std::mem::zeroed();
                if sigaction(signal, std::ptr::null(), &mut action) != 0 {
                    continue;
                }
                NEXT.store(action.sa_sigaction, Ordering::SeqCst);
                action.sa_sigaction = note as *const () as usize;
                sigaction(signal, &action, std::ptr::null_mut());
            }
        }
    }

    /// Only stores and calls, which a signal handler may.
    extern "C" fn note(signal: c_int) {
        let _ = FIRST.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
        let next = NEXT.load(Ordering::SeqCst);
        if next != libc::SIG_DFL && next != libc::SIG_IGN {
            // SAFETY: the system had this address as a handler of one number; `ctrlc` installs it without SA_SIGINFO.
            let next: extern "C" fn(c_int) = unsafe { std::mem::transmute(next) };
            next(signal);
        }
    }
}

#[cfg(not(unix))]
mod remember {
    pub fn first() -> Option<u8> {
        None
    }

    pub fn install() {}
}
