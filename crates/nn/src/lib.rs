//! Fused training operations over Burn's Backend trait, and layers with adapter slots.
