//! The backends that are compiled in, and how a job gets onto one. Every generic model and loop is instantiated here and
//! nowhere else, once a backend.

use crate::{Error, config::Device};
use burn::tensor::backend::BackendTypes;
use rekindle_nn::TuneAutodiff;
use sysinfo::{CpuRefreshKind, System};

/// Work that runs on any backend.
pub(crate) trait OnBackend {
    type Output;
    fn run<B: TuneAutodiff>(
        self,
        device: &<B as BackendTypes>::Device,
    ) -> Result<Self::Output, Error>;
}

/// The devices of this build, for messages and `--help`.
#[must_use]
pub fn compiled_devices() -> Vec<&'static str> {
    [
        (cfg!(feature = "cpu"), "cpu"),
        (cfg!(feature = "wgpu"), "wgpu"),
        (cfg!(feature = "cuda"), "cuda"),
    ]
    .into_iter()
    .filter_map(|(compiled, name)| compiled.then_some(name))
    .collect()
}

/// The sets of instructions of this machine's CPU that the CPU backend has kernels for and uses.
#[must_use]
pub fn cpu_kernels() -> Vec<&'static str> {
    #[cfg(feature = "cpu")]
    return rekindle_nn::ops::cpu_kernels();
    #[cfg(not(feature = "cpu"))]
    Vec::new()
}

/// The name of this machine's processor, where the system tells.
pub(crate) fn cpu_name() -> Option<String> {
    let mut system = System::new();
    system.refresh_cpu_list(CpuRefreshKind::nothing());
    let name = system.cpus().first()?.brand().trim().to_owned();
    (!name.is_empty()).then_some(name)
}

/// A device that this build can compute on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its name for `--device`.
    pub device: String,
    /// What the maker calls it, where that is known.
    pub name: Option<String>,
    /// Its memory in bytes, where that is known.
    pub memory: Option<u64>,
    /// The sets of instructions that are used of it.
    pub features: Vec<&'static str>,
    /// Why it cannot be used, with a remedy; `None` where it can.
    pub missing: Option<String>,
}

/// Every device of this build, whether it is there or not.
#[must_use]
pub fn devices() -> Vec<DeviceInfo> {
    let found: &[Vec<DeviceInfo>] = &[
        #[cfg(feature = "cpu")]
        vec![cpu::info()],
        #[cfg(feature = "wgpu")]
        vec![wgpu::info()],
        #[cfg(feature = "cuda")]
        cuda::infos(),
    ];
    found.concat()
}

/// What is said of a device that cannot be used.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn absent(device: &str, error: &Error) -> DeviceInfo {
    DeviceInfo {
        device: device.to_owned(),
        name: None,
        memory: None,
        features: Vec::new(),
        missing: Some(error.to_string()),
    }
}

/// Runs a job on a device.
///
/// # Errors
/// When the device is not compiled in or not there, and whatever the job says.
pub(crate) fn on_device<J: OnBackend>(device: Device, job: J) -> Result<J::Output, Error> {
    match device {
        #[cfg(feature = "cpu")]
        Device::Cpu => job.run::<burn::backend::Autodiff<burn::backend::Flex>>(&Default::default()),
        #[cfg(feature = "wgpu")]
        Device::Wgpu => {
            let device = wgpu::adapter()?;
            job.run::<burn::backend::Autodiff<burn::backend::Wgpu<f32, i32, u32>>>(&device)
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => {
            let device = cuda::driver(index)?;
            job.run::<burn::backend::Autodiff<burn::backend::Cuda<f32, i32>>>(&device)
        }
        #[allow(unreachable_patterns)]
        other => Err(Error::Device {
            device: other.to_string(),
            reason: format!("this build has {} only", compiled_devices().join(", ")),
            hint: format!(
                "build it in: cargo xtask finetune --backend {}",
                other.to_string().split(':').next().unwrap_or_default()
            ),
        }),
    }
}

/// Runs `probe` and turns a panic of the runtime below into its message: the GPU runtimes panic where there is no driver.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn quietly<T>(probe: impl FnOnce() -> T + std::panic::UnwindSafe) -> Result<T, String> {
    use std::{panic, sync::Mutex};
    static HOOK: Mutex<()> = Mutex::new(());
    let _one_at_a_time = HOOK.lock();
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let result = panic::catch_unwind(probe);
    panic::set_hook(hook);
    result.map_err(|cause| {
        let text = cause.downcast_ref::<String>().cloned();
        let text = text
            .or_else(|| cause.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap_or_default();
        let line = text.lines().map(str::trim).find(|line| !line.is_empty());
        brief(line.unwrap_or("no reason given")).to_owned()
    })
}

/// A runtime's reason without what it tells its own developers: lists of names tried and printed structures.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn brief(reason: &str) -> &str {
    let end = [" - ", " {", ": NotFound"]
        .iter()
        .filter_map(|mark| reason.find(mark))
        .min();
    reason[..end.unwrap_or(reason.len())].trim_end_matches('.')
}

#[cfg(feature = "cpu")]
mod cpu {
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
}

#[cfg(feature = "wgpu")]
mod wgpu {
    use super::DeviceInfo;
    use crate::Error;
    use burn::backend::wgpu::{RuntimeOptions, WgpuDevice, graphics::AutoGraphicsApi, init_setup};
    use std::sync::OnceLock;

    pub(super) fn info() -> DeviceInfo {
        match set_up() {
            Ok(name) => DeviceInfo {
                device: "wgpu".into(),
                name: Some(name),
                memory: None,
                features: Vec::new(),
                missing: None,
            },
            Err(error) => super::absent("wgpu", &error),
        }
    }

    /// Sets up the default adapter, once.
    pub(super) fn adapter() -> Result<WgpuDevice, Error> {
        set_up().map(|_| WgpuDevice::DefaultDevice)
    }

    /// Sets up the default adapter, once, and returns its name.
    fn set_up() -> Result<String, Error> {
        static SET_UP: OnceLock<Result<String, String>> = OnceLock::new();
        let ready = SET_UP.get_or_init(|| {
            super::quietly(|| {
                let set_up = init_setup::<AutoGraphicsApi>(
                    &WgpuDevice::DefaultDevice,
                    RuntimeOptions::default(),
                );
                let adapter = set_up.adapter.get_info();
                format!("{}, by {:?}", adapter.name, adapter.backend)
            })
        });
        ready.clone().map_err(|reason| Error::Device {
            device: "wgpu".into(),
            reason: format!("no graphics adapter can be used ({reason})"),
            hint: "install a driver for Vulkan, Metal or DirectX 12 (in software on Debian: the package mesa-vulkan-drivers, with XDG_RUNTIME_DIR naming a folder), or use --device cpu".into(),
        })
    }
}

#[cfg(feature = "cuda")]
mod cuda {
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
                "the CUDA toolkit's headers were not found, and kernels are compiled with them"
                    .into(),
                "install the CUDA toolkit (its include folder is enough) and set CUDA_PATH to it",
            ));
        }
        Ok(CudaDevice::new(index))
    }
}
