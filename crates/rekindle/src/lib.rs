//! Recipes: fine-tune a pretrained model from one configuration, then evaluate it, predict with it, look into it.
//! The only crate that knows all the others.
//!
//! ```no_run
//! use rekindle::{RunConfig, Silent};
//!
//! # fn main() -> Result<(), rekindle::Error> {
//! let mut config = RunConfig::default(); // LoRA on MiniLM
//! config.data.train = Some("tickets.csv".into());
//! config.train.epochs = 5.0;
//! let run = rekindle::finetune(&config, &Silent)?;
//! println!("accuracy {:.4}, model in {}", run.report.accuracy, run.final_dir.display());
//!
//! let classifier = rekindle::Classifier::open(&run.final_dir, config.device, &Silent)?;
//! let answer = &classifier.predict(&["my parcel never arrived"])?[0];
//! println!("{} ({:.0} %)", answer.label, 100.0 * answer.probability);
//! # Ok(())
//! # }
//! ```
#![recursion_limit = "256"]

mod backend;
mod balance;
mod classifier;
pub mod config;
mod data;
mod error;
mod evaluation;
mod features;
mod finetune;
mod images;
mod init;
mod inspect;
mod merge;
mod observer;
mod plan;
pub mod report;
mod saved;
mod task;
mod text;

pub use backend::compiled_devices;
pub use classifier::{Classifier, Prediction};
pub use config::RunConfig;
pub use error::Error;
pub use finetune::{FinishedRun, finetune, plan, resume};
pub use init::run_file_for;
pub use inspect::inspect;
pub use merge::{Merged, merge};
pub use observer::{Observer, Silent};
pub use plan::Plan;
pub use rekindle_data::image::find_pictures;
pub use rekindle_hub::{Hub, NoProgress, Progress};
pub use rekindle_metrics::{CalibrationReport, ClassificationReport};
pub use rekindle_train::{Evaluation, Event, Stopped};
