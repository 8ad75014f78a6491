//! `rekindle devices`

use crate::{output, table::table};
use clap::Args;
use rekindle::{DeviceInfo, words::bytes};
use serde_json::{Value, json};
use std::time::Instant;

/// List what this build can compute on, and whether it is there.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  rekindle devices\n  rekindle devices --check\n  rekindle finetune tickets.csv --device cuda:0"
)]
pub struct Devices {
    /// Hold what each GPU computes against the CPU
    #[arg(long)]
    check: bool,
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

impl Devices {
    pub fn run(self) -> anyhow::Result<()> {
        let devices: Vec<(DeviceInfo, Option<String>)> = rekindle::devices()
            .into_iter()
            .map(|device| {
                let check = self.check && device.missing.is_none();
                let found = check.then(|| checked(&device.device));
                (device, found.flatten())
            })
            .collect();
        if self.json {
            return output::json(&devices.iter().map(to_json).collect::<Vec<_>>());
        }
        let row = |(device, check): &(DeviceInfo, Option<String>)| {
            let mut row = vec![
                device.device.clone(),
                if device.missing.is_none() {
                    "yes"
                } else {
                    "no"
                }
                .to_owned(),
                device.memory.map(bytes).unwrap_or_default(),
                device.name.clone().unwrap_or_default(),
            ];
            if self.check {
                row.push(check.clone().unwrap_or_default());
            }
            row
        };
        let rows: Vec<Vec<String>> = devices.iter().map(row).collect();
        let mut columns = vec!["device", "there", "memory", "name"];
        if self.check {
            columns.push("check");
        }
        let mut out = table(&columns, &rows);
        for (device, _) in &devices {
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

/// What a check of a device says, and how long it took; `None` of the CPU, which the others are held against.
fn checked(device: &str) -> Option<String> {
    let clock = Instant::now();
    let found = match rekindle::check_device(device) {
        Ok(found) => found?,
        Err(error) => Err(error.to_string()),
    };
    let seconds = clock.elapsed().as_secs_f64();
    Some(match found {
        Ok(()) => format!("computes as the CPU ({seconds:.1} s)"),
        Err(reason) => format!("must not be used: {reason}"),
    })
}

fn to_json((device, check): &(DeviceInfo, Option<String>)) -> Value {
    json!({
        "check": check,
        "device": device.device,
        "there": device.missing.is_none(),
        "name": device.name,
        "memory_bytes": device.memory,
        "features": device.features,
        "missing": device.missing,
    })
}
