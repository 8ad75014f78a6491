//! The backends that are compiled in, and how a job gets onto one. Every generic model and loop is instantiated here and
//! nowhere else, once a backend.

use crate::{Error, config::Device};
use burn::tensor::backend::BackendTypes;
use rekindle_nn::TuneAutodiff;

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

#[cfg(feature = "wgpu")]
mod wgpu {
    use crate::Error;
    use burn::backend::wgpu::{RuntimeOptions, WgpuDevice, graphics::AutoGraphicsApi, init_setup};
    use std::sync::OnceLock;

    /// Sets up the default adapter, once.
    pub(super) fn adapter() -> Result<WgpuDevice, Error> {
        static SET_UP: OnceLock<Result<(), String>> = OnceLock::new();
        let ready = SET_UP.get_or_init(|| {
            super::quietly(|| {
                init_setup::<AutoGraphicsApi>(
                    &WgpuDevice::DefaultDevice,
                    RuntimeOptions::default(),
                );
            })
        });
        ready.clone().map(|()| WgpuDevice::DefaultDevice).map_err(|reason| Error::Device {
            device: "wgpu".into(),
            reason: format!("no graphics adapter can be used ({reason})"),
            hint: "install a driver for Vulkan, Metal or DirectX 12 (in software on Debian: the package mesa-vulkan-drivers, with XDG_RUNTIME_DIR naming a folder), or use --device cpu".into(),
        })
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    use crate::Error;
    use burn::backend::cuda::CudaDevice;
    use std::path::Path;

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
