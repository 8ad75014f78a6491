//! The backends that are compiled in, and how a job gets onto one. Every generic model and loop is instantiated here and
//! nowhere else, once a backend.

#[cfg(feature = "cpu")]
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "wgpu")]
mod wgpu;

use crate::{Error, config::Device};
use burn::tensor::backend::BackendTypes;
use rekindle_nn::TuneAutodiff;
use std::sync::{Mutex, PoisonError};
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
        wgpu::infos(),
        #[cfg(feature = "cuda")]
        cuda::infos(),
    ];
    found.concat()
}

/// What a check of a device found: `None` where there is none to hold it against, as for the CPU itself.
pub type Checked = Option<Result<(), String>>;

/// Holds a device's results against the CPU's: a linear layer, a LoRA step and attention. `name` as in [`DeviceInfo::device`].
///
/// # Errors
/// A name that is none, or a device that is not there.
pub fn check_device(name: &str) -> Result<Checked, Error> {
    struct Check;
    impl OnBackend for Check {
        type Output = Checked;
        fn run<B: TuneAutodiff>(
            self,
            device: &<B as BackendTypes>::Device,
        ) -> Result<Checked, Error> {
            Ok(verdict::<B>(device))
        }
    }
    match Device::named(name) {
        Some(Device::Cpu) => Ok(None),
        Some(device) => opened(device, Check),
        None => Err(Error::Device {
            device: name.to_owned(),
            reason: "no device is called so".into(),
            hint: "`rekindle devices` lists them".into(),
        }),
    }
}

#[cfg(all(feature = "cpu", any(feature = "wgpu", feature = "cuda")))]
fn verdict<B: TuneAutodiff>(device: &<B as BackendTypes>::Device) -> Checked {
    // Where a kernel cannot be compiled the runtime may panic.
    let device = std::panic::AssertUnwindSafe(device);
    let found = quietly(|| rekindle_nn::self_test::<B>(&device));
    Some(found.and_then(|found| found))
}

/// There is no CPU in this build to hold a GPU against, or no GPU.
#[cfg(not(all(feature = "cpu", any(feature = "wgpu", feature = "cuda"))))]
fn verdict<B: TuneAutodiff>(_: &<B as BackendTypes>::Device) -> Checked {
    None
}

/// What "auto" stands for on this machine: the first NVIDIA GPU, else the first graphics adapter that is no software, else the CPU.
/// Any other device is itself.
pub(crate) fn chosen(device: Device) -> Device {
    if device != Device::Auto {
        return device;
    }
    #[cfg(feature = "cuda")]
    if cuda::driver(0).is_ok() {
        return Device::Cuda(0);
    }
    #[cfg(feature = "wgpu")]
    if let Some(&index) = wgpu::gpus().first() {
        return Device::Wgpu(Some(index));
    }
    match cfg!(feature = "cpu") {
        true => Device::Cpu,
        false if cfg!(feature = "cuda") => Device::Cuda(0),
        false => Device::Wgpu(None),
    }
}

/// The device of one of several processes of a machine, by its number among them: they take the machine's GPUs in turn, from the
/// one that the run names.
#[cfg_attr(not(any(feature = "wgpu", feature = "cuda")), allow(unused_variables))]
pub(crate) fn of_process(device: Device, local: usize) -> Device {
    match chosen(device) {
        #[cfg(feature = "cuda")]
        Device::Cuda(first) => Device::Cuda(in_turn(
            &(0..cuda::count()).collect::<Vec<_>>(),
            first,
            local,
        )),
        #[cfg(feature = "wgpu")]
        Device::Wgpu(first) => match (wgpu::gpus(), first) {
            (gpus, Some(first)) => Device::Wgpu(Some(in_turn(&gpus, first, local))),
            (gpus, None) if gpus.len() > 1 => Device::Wgpu(Some(in_turn(&gpus, gpus[0], local))),
            _ => Device::Wgpu(None),
        },
        other => other,
    }
}

/// The GPU that comes so many places after `first`, round and round; `first` where it is none of them.
#[cfg(any(feature = "wgpu", feature = "cuda", test))]
fn in_turn(gpus: &[usize], first: usize, by: usize) -> usize {
    let start = gpus.iter().position(|&gpu| gpu == first);
    start.map_or(first, |start| gpus[(start + by) % gpus.len()])
}

/// A device and what its maker calls it, for people.
pub(crate) fn described(device: Device) -> String {
    let name: Option<String> = match device {
        #[cfg(feature = "wgpu")]
        Device::Wgpu(index) => wgpu::name(index),
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => cuda::name(index),
        _ => None,
    };
    match name {
        Some(name) => format!("{device} ({name})"),
        None => device.to_string(),
    }
}

/// Bytes of memory that a job on a device can still take, where that is told.
pub(crate) fn free_memory(device: Device) -> Option<u64> {
    match device {
        Device::Cpu => crate::plan::free_memory(),
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => cuda::free_memory(index),
        _ => None,
    }
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

/// A job behind the check of its device, which is done once a process.
struct Checking<J>(Device, J);

impl<J: OnBackend> OnBackend for Checking<J> {
    type Output = J::Output;

    fn run<B: TuneAutodiff>(
        self,
        device: &<B as BackendTypes>::Device,
    ) -> Result<Self::Output, Error> {
        static CHECKED: Mutex<Vec<(Device, Checked)>> = Mutex::new(Vec::new());
        let Self(name, job) = self;
        let mut checked = CHECKED.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match checked.iter().find(|(of, _)| *of == name) {
            Some((_, found)) => found.clone(),
            None => {
                let found = verdict::<B>(device);
                checked.push((name, found.clone()));
                found
            }
        };
        drop(checked);
        match found {
            Some(Err(reason)) => Err(Error::Device {
                device: name.to_string(),
                reason: format!("it does not compute as it should: {reason}"),
                hint: "update its driver, or use --device cpu".into(),
            }),
            _ => job.run::<B>(device),
        }
    }
}

/// Runs a job on a device. A GPU is first held against the CPU, where that is compiled in.
///
/// # Errors
/// When the device is not compiled in, not there or computes wrongly, and whatever the job says.
pub(crate) fn on_device<J: OnBackend>(device: Device, job: J) -> Result<J::Output, Error> {
    match chosen(device) {
        Device::Cpu => opened(Device::Cpu, job),
        device => opened(device, Checking(device, job)),
    }
}

/// Opens a device and runs a job on it.
fn opened<J: OnBackend>(device: Device, job: J) -> Result<J::Output, Error> {
    match device {
        #[cfg(feature = "cpu")]
        Device::Cpu => job.run::<burn::backend::Autodiff<burn::backend::Flex>>(&Default::default()),
        #[cfg(feature = "wgpu")]
        Device::Wgpu(index) => {
            let device = wgpu::adapter(index)?;
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

#[cfg(all(test, feature = "cpu"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn auto_is_a_device_of_this_build() {
        let device = chosen(Device::Auto);
        let name = device.to_string();
        let backend = name.split(':').next().unwrap();
        assert!(compiled_devices().contains(&backend), "{name}");
        assert_eq!(chosen(Device::Cuda(3)), Device::Cuda(3));
    }

    #[test]
    fn the_cpu_needs_no_check_and_what_is_no_device_has_none() {
        assert_eq!(check_device("cpu").unwrap(), None);
        let error = check_device("gpu").unwrap_err().to_string();
        assert!(error.contains("no device is called so"), "{error}");
    }

    #[test]
    fn processes_of_a_machine_take_its_gpus_in_turn() {
        let taken = |gpus: &[usize], first| [0, 1, 2, 3].map(|local| in_turn(gpus, first, local));
        assert_eq!(taken(&[0, 1, 2, 3], 0), [0, 1, 2, 3]);
        assert_eq!(taken(&[0, 1, 2], 1), [1, 2, 0, 1]);
        // Of graphics adapters some may be software; what is not there is told where it is opened.
        assert_eq!(taken(&[1, 3], 1), [1, 3, 1, 3]);
        assert_eq!(taken(&[0], 7), [7, 7, 7, 7]);
        assert_eq!(of_process(Device::Cpu, 3), Device::Cpu);
    }

    #[test]
    fn devices_are_named_both_ways() {
        for (name, device) in [
            ("auto", Device::Auto),
            ("cpu", Device::Cpu),
            ("wgpu", Device::Wgpu(None)),
            ("wgpu:1", Device::Wgpu(Some(1))),
            ("cuda:0", Device::Cuda(0)),
            ("cuda:2", Device::Cuda(2)),
        ] {
            assert_eq!(Device::named(name), Some(device));
            assert_eq!(device.to_string(), name);
        }
        assert_eq!(Device::named("cuda"), Some(Device::Cuda(0)));
        for name in ["gpu", "cpu:0", "wgpu:", "cuda:x", "cuda:-1"] {
            assert_eq!(Device::named(name), None, "{name}");
        }
    }
}
