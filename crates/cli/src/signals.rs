//! What asks a run to stop: Ctrl-C, SIGTERM (a scheduler or a shutdown), SIGHUP (a terminal that closes).

/// Calls `handler` whenever one of them comes. A SIGHUP that is ignored when the program starts, as under `nohup`, stays so.
pub fn on_stop(handler: impl FnMut() + Send + 'static) -> Result<(), ctrlc::Error> {
    let under_nohup = ignore_hangup();
    ctrlc::set_handler(handler)?;
    if under_nohup {
        ignore_hangup();
    }
    Ok(())
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
