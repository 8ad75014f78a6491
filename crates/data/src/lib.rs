//! Files to examples, to encoded examples, to batches of packed tokens.
