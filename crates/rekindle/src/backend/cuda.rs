//! NVIDIA's GPUs, by the driver.

use super::DeviceInfo;
use crate::Error;
use burn::backend::cuda::CudaDevice;
use std::path::Path;

/// Every GPU that the driver knows; one that is absent where it knows none.
pub(super) fn infos() -> Vec<DeviceInfo> {
    let there = |index| driver(index).is_ok().then(|| info(index));
    let mut infos: Vec<DeviceInfo> = (0..).map_while(there).collect();
    if infos.is_empty()
        && let Err(error) = driver(0)
    {
        infos.push(super::absent("cuda:0", &error));
    }
    infos
}

fn info(index: usize) -> DeviceInfo {
    let asked = super::quietly(|| {
        let context = cudarc::driver::CudaContext::new(index).ok()?;
        Some((context.name().ok()?, context.total_mem().ok()? as u64))
    });
    let known = asked.ok().flatten();
    DeviceInfo {
        device: format!("cuda:{index}"),
        memory: known.as_ref().map(|(_, memory)| *memory),
        name: known.map(|(name, _)| name),
        features: Vec::new(),
        missing: None,
    }
}

/// How many GPUs the driver knows.
pub(super) fn count() -> usize {
    let asked = super::quietly(|| cudarc::driver::CudaContext::device_count().ok());
    asked.ok().flatten().unwrap_or(0).max(0) as usize
}

/// What its maker calls a GPU, and its memory.
pub(super) fn name(index: usize) -> Option<String> {
    let DeviceInfo { name, memory, .. } = info(index);
    let name = name?;
    Some(match memory {
        Some(memory) => format!("{name}, {:.0} GB", memory as f64 / 1e9),
        None => name,
    })
}

/// Bytes of a GPU's memory that nobody holds.
pub(super) fn free_memory(index: usize) -> Option<u64> {
    let asked = super::quietly(|| {
        let context = cudarc::driver::CudaContext::new(index).ok()?;
        Some(context.mem_get_info().ok()?.0 as u64)
    });
    asked.ok().flatten()
}

/// Looks for the driver and for the toolkit's headers, which kernels are compiled with, before the runtime does.
pub(super) fn driver(index: usize) -> Result<CudaDevice, Error> {
    let fail = |reason: String, hint: &str| Error::Device {
        device: format!("cuda:{index}"),
        reason,
        hint: hint.into(),
    };
    let devices = super::quietly(cudarc::driver::CudaContext::device_count)
        .and_then(|count| count.map_err(|e| super::brief(&e.to_string()).to_owned()))
        .map_err(|reason| {
            fail(
                format!("NVIDIA's driver cannot be used ({reason})"),
                "install the driver, or use --device cpu or wgpu",
            )
        })?;
    if index >= devices.max(0) as usize {
        return Err(fail(
            format!("this machine has {devices} NVIDIA GPUs"),
            "name one of them; the first is cuda:0",
        ));
    }
    let set = std::env::var_os("CUDA_PATH");
    let found = match &set {
        Some(path) => Path::new(path).join("include/cuda_runtime.h").is_file(),
        None => ["/usr/local/cuda", "/opt/cuda", "/usr"]
            .iter()
            .any(|p| Path::new(p).join("include/cuda_runtime.h").is_file()),
    };
    if !found && cfg!(target_os = "linux") {
        return Err(fail(
            "the CUDA toolkit's headers were not found, and kernels are compiled with them".into(),
            "install the CUDA toolkit (its include folder is enough) and set CUDA_PATH to it",
        ));
    }
    Ok(CudaDevice::new(index))
}
