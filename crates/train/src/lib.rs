//! The training loop: optimizers, schedules, checkpoints, events. Knows no model and no data format.
