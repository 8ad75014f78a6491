//! `rekindle devices`

use crate::{output, table::table};
use clap::Args;
use rekindle::{DeviceInfo, words::bytes};
use serde_json::{Value, json};

/// List what this build can compute on, and whether it is there.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  rekindle devices\n  rekindle finetune tickets.csv --device cuda:0"
)]
pub struct Devices {
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

impl Devices {
    pub fn run(self) -> anyhow::Result<()> {
        let devices = rekindle::devices();
        if self.json {
            return output::json(&devices.iter().map(to_json).collect::<Vec<_>>());
        }
        let row = |device: &DeviceInfo| {
            vec![
                device.device.clone(),
                if device.missing.is_none() {
                    "yes"
                } else {
                    "no"
                }
                .to_owned(),
                device.memory.map(bytes).unwrap_or_default(),
                device.name.clone().unwrap_or_default(),
            ]
        };
        let rows: Vec<Vec<String>> = devices.iter().map(row).collect();
        let mut out = table(&["device", "there", "memory", "name"], &rows);
        for device in &devices {
            if !device.features.is_empty() {
                let features = device.features.join(", ");
                out += &format!("\n{} has kernels for {features}\n", device.device);
            }
            if let Some(missing) = &device.missing {
                out += &format!("\n{missing}\n");
            }
        }
        Ok(output::print(out)?)
    }
}

fn to_json(device: &DeviceInfo) -> Value {
    json!({
        "device": device.device,
        "there": device.missing.is_none(),
        "name": device.name,
        "memory_bytes": device.memory,
        "features": device.features,
        "missing": device.missing,
    })
}
