//! The processor, as a device.

use super::{DeviceInfo, cpu_kernels, cpu_name};
use sysinfo::System;

pub(super) fn info() -> DeviceInfo {
    let mut system = System::new();
    system.refresh_memory();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let name = cpu_name().unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    DeviceInfo {
        device: "cpu".into(),
        name: Some(format!("{name}, {threads} threads")),
        memory: Some(system.total_memory()).filter(|&bytes| bytes > 0),
        features: cpu_kernels(),
        missing: None,
    }
}
