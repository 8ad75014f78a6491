//! How a caller watches downloads: a trait, so that this crate draws nothing itself.

/// Receives the course of downloads, from several threads at once.
pub trait Progress: Sync {
    /// A transfer named `what` begins, of `total` bytes where known. A second `start` of the same name sets it back to zero.
    fn start(&self, what: &str, total: Option<u64>);
    /// `bytes` more of `what` are on disk.
    fn advance(&self, what: &str, bytes: u64);
    /// `what` is complete.
    fn finish(&self, what: &str);
    /// Something the user should know, e.g. that a source failed and the next one is tried.
    fn note(&self, _message: &str) {}
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn start(&self, _what: &str, _total: Option<u64>) {}
    fn advance(&self, _what: &str, _bytes: u64) {}
    fn finish(&self, _what: &str) {}
}
