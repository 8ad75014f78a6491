//! Adapters put into a model, saved, loaded and merged, in the PEFT format.
