//! Recipes: fine-tune a pretrained model from one configuration, then evaluate it, predict with it, look into it.
//! The only crate that knows all the others.
//!
//! ```text
//!  rekindle-cli                                               arguments, printing, exit codes
//!       |
//!   rekindle                                                  a run, from its settings to its report
//!       |
//!   +---+----+---------+--------+--------+--------+
//!  hub     data     models    peft    train    metrics        each a part of a run, by itself
//!                      |        |        |        |
//!                      |        |        +--------+           the loop asks for figures
//!                      +--------+--------+
//!                               |
//!                        +------+------+
//!                     weights          nn                     files of tensors; operations and layers
//!
//!  base                                                       under all of them
//! ```
//!
//! | crate | takes | gives |
//! |---|---|---|
//! | [`rekindle_hub`] | the name of a model or dataset | a directory of verified files |
//! | [`rekindle_data`] | files | examples, encoded, in batches |
//! | [`rekindle_weights`] | files of weights | named tensors |
//! | [`rekindle_nn`] | tensors | operations that train, layers with slots for adapters |
//! | [`rekindle_models`] | a model directory | a Burn module with a head |
//! | [`rekindle_peft`] | a model | the same with adapters, or with parts frozen |
//! | [`rekindle_metrics`] | predictions and targets | figures |
//! | [`rekindle_train`] | a model with its batches | a trained model, checkpoints, events |
//! | [`rekindle_base`] | | random numbers, near misses, files written whole |
//!
//! [`RunConfig`] has all settings, [`finetune()`] makes a run of them, [`Predictor`] and [`Generator`] use what it saved:
//!
//! ```no_run
//! use rekindle::{RunConfig, Silent};
//!
//! # fn main() -> Result<(), rekindle::Error> {
//! let mut config = RunConfig::default(); // LoRA on MiniLM
//! config.data.train = Some("tickets.csv".into());
//! config.train.epochs = Some(5.0);
//! let run = rekindle::finetune(&config, &Silent)?;
//! println!("{}, model in {}", run.figures.summary(), run.final_dir.display());
//!
//! let predictor = rekindle::Predictor::open(&run.final_dir, config.device, &Silent)?;
//! let answer = &predictor.predict(&["my parcel never arrived"])?[0];
//! println!("{:?}", answer.label());
//! # Ok(())
//! # }
//! ```
#![recursion_limit = "256"]

mod answers;
mod backend;
mod balance;
mod checkpointing;
pub mod config;
mod data_summary;
mod embedder;
mod error;
mod evaluation;
mod examples;
mod export;
mod feature_cache;
mod figures;
mod finetune;
mod fingerprint;
mod fitting;
mod generation;
mod gguf;
mod grad_cache;
mod guess;
mod init;
mod inputs;
mod inspect;
mod length;
mod loaded;
mod located;
mod log;
mod logistic;
mod look;
mod memory;
mod merge;
mod model_card;
mod observer;
mod plan;
mod predictions;
mod predictor;
mod processes;
mod provenance;
mod queries;
mod rates;
mod recipe;
pub mod report;
mod results;
mod run_report;
pub mod runs;
mod saved;
mod sentence;
mod spread;
mod task;
mod tasks;
mod tensorboard;
mod trial;
mod tuning;

pub use backend::{Checked, DeviceInfo, check_device, compiled_devices, cpu_kernels, devices};
pub use config::RunConfig;
pub use embedder::{Embedder, write_vectors};
pub use error::Error;
pub use export::{EXPORT_TYPES, Exported, export};
pub use figures::{Compared, Figures, Scalar, Section, Shown, Tile, Watched};
pub use finetune::{
    FinishedRun, Occupied, finetune, finetune_into, finetune_together, plan, resume, resume_longer,
    resume_together,
};
pub use fitting::{BatchFound, BatchPoint, find_batch};
pub use generation::{Answer, Generator, Prompt, Sampling, Talk, read_prompts};
pub use guess::Guess;
pub use init::{RunFile, fitting_task, language_task, run_file_for, write_run_file};
pub use inspect::{Inspected, inspect};
pub use look::{Cut, Finding, Found, FoundRow, Looked, LookedAt, LookedToken, look, task_of_model};
pub use merge::{Merged, merge};
pub use observer::{Observer, Silent};
pub use plan::Plan;
pub use predictor::{Evaluated, Predictor, Shots};
pub use queries::{Query, text_of_file, text_of_line};
pub use rates::{RatePoint, Rates, find_rate, write_rates_page};
pub use rekindle_base::{
    Aside, discard_unfinished, shell_word, thousands, words, write_atomically_with,
};
pub use rekindle_data::chat::{ChatRole, Constraint, Conversation, Message};
pub use rekindle_data::image::find_pictures;
pub use rekindle_hub::{
    DatasetCard, Hub, ModelCard, NoProgress, Progress, Push, Pushed, model_cards,
};
pub use rekindle_train::{Collective, Evaluation, Event, Launch, Stopped, TrainError};
pub use runs::results;
pub use spread::Spread;
pub use task::{Kind, Modality, Task};
pub use tasks::{ExtractedAnswer, LabelledSpan, Prediction, RatedChoice};
pub use trial::Cost;
