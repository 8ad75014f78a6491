//! A model or dataset name to a local directory of verified files; the only crate that touches a network.
