//! Graphics adapters, by wgpu. The list is asked for without opening any; an adapter is opened when a job wants it.

use super::{DeviceInfo, absent, quietly};
use crate::Error;
use burn::{
    backend::wgpu::{
        RuntimeOptions, WgpuDevice,
        graphics::{AutoGraphicsApi, GraphicsApi},
        init_setup,
    },
    tensor::try_read_sync,
};
use std::{collections::BTreeMap, sync::Mutex, sync::PoisonError};
use wgpu::{AdapterInfo, DeviceType};

/// An adapter, and the name under which the runtime knows it.
struct Adapter {
    info: AdapterInfo,
    device: WgpuDevice,
}

/// All adapters, in the driver's order.
fn adapters() -> Vec<Adapter> {
    let found = quietly(|| {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends: AutoGraphicsApi::backend().into(),
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        let adapters =
            try_read_sync(instance.enumerate_adapters(AutoGraphicsApi::backend().into()));
        let infos = adapters.unwrap_or_default().into_iter();
        infos.map(|adapter| adapter.get_info()).collect::<Vec<_>>()
    });
    // The runtime counts each kind by itself.
    let mut counts = [0; 3];
    let mut count = |kind: usize| {
        counts[kind] += 1;
        counts[kind] - 1
    };
    let known = found.unwrap_or_default().into_iter().filter_map(|info| {
        let device = match info.device_type {
            DeviceType::DiscreteGpu => WgpuDevice::DiscreteGpu(count(0)),
            DeviceType::IntegratedGpu => WgpuDevice::IntegratedGpu(count(1)),
            DeviceType::VirtualGpu => WgpuDevice::VirtualGpu(count(2)),
            DeviceType::Cpu => WgpuDevice::Cpu,
            DeviceType::Other => return None,
        };
        Some(Adapter { info, device })
    });
    known.collect()
}

fn name_of(info: &AdapterInfo) -> String {
    let software = match info.device_type {
        DeviceType::Cpu => ", in software",
        _ => "",
    };
    format!("{}, by {:?}{software}", info.name, info.backend)
}

/// Every adapter; one that is absent where there is none.
pub(super) fn infos() -> Vec<DeviceInfo> {
    let adapters = adapters();
    if adapters.is_empty() {
        return vec![absent("wgpu", &none("none was found"))];
    }
    let infos = adapters.iter().enumerate();
    infos
        .map(|(index, adapter)| DeviceInfo {
            device: format!("wgpu:{index}"),
            name: Some(name_of(&adapter.info)),
            // No graphics API tells it.
            memory: None,
            features: Vec::new(),
            missing: None,
        })
        .collect()
}

/// What is called `wgpu` or `wgpu:N`.
pub(super) fn name(index: Option<usize>) -> Option<String> {
    let adapters = adapters();
    let adapter = adapters.get(index?)?;
    Some(name_of(&adapter.info))
}

/// The adapters that are no software.
pub(super) fn gpus() -> Vec<usize> {
    let adapters = adapters();
    let gpus = adapters.iter().enumerate();
    gpus.filter(|(_, adapter)| adapter.info.device_type != DeviceType::Cpu)
        .map(|(index, _)| index)
        .collect()
}

/// Opens an adapter, once: that of a number, or the one that the driver prefers.
pub(super) fn adapter(index: Option<usize>) -> Result<WgpuDevice, Error> {
    static OPEN: Mutex<BTreeMap<Option<usize>, Result<(), String>>> = Mutex::new(BTreeMap::new());
    let device = match index {
        None => WgpuDevice::DefaultDevice,
        Some(index) => {
            let adapters = adapters();
            match adapters.get(index) {
                Some(adapter) => adapter.device.clone(),
                None if adapters.is_empty() => return Err(none("none was found")),
                None => {
                    return Err(Error::Device {
                        device: format!("wgpu:{index}"),
                        reason: format!("this machine has {} graphics adapters", adapters.len()),
                        hint: "`rekindle devices` lists them; the first is wgpu:0".into(),
                    });
                }
            }
        }
    };
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let opened = open.entry(index).or_insert_with(|| {
        quietly(|| {
            init_setup::<AutoGraphicsApi>(&device, RuntimeOptions::default());
        })
    });
    opened.clone().map_err(|reason| none(&reason))?;
    Ok(device)
}

fn none(reason: &str) -> Error {
    Error::Device {
        device: "wgpu".into(),
        reason: format!("no graphics adapter can be used ({reason})"),
        hint: "install a driver for Vulkan, Metal or DirectX 12 (in software on Debian: the package mesa-vulkan-drivers, with XDG_RUNTIME_DIR naming a folder), or use --device cpu".into(),
    }
}
