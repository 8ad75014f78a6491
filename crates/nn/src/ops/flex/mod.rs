//! Kernels for the CPU backend.

use super::TuneBackend;
use burn::backend::Flex;

impl TuneBackend for Flex {}
