//! A run that several processes share: they agree on its settings, and those that do not lead do their part of the work and
//! write nothing. ARCHITECTURE.md, "Several processes", says who does what.

use crate::{
    Error, Observer, RunConfig, backend,
    config::Device,
    finetune::{Opened, best_model},
};
use burn::module::AutodiffModule;
use rekindle_models::Model;
use rekindle_nn::TuneAutodiff;
use rekindle_train::{
    Checkpoint, Collective, Event, Job, Launch, RunDir, Sink, Stopped, Traffic, TrainConfig,
};
use serde::Serialize;
use std::path::Path;

/// What the steps of a run said to other processes, each step on average.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Communication {
    pub processes: usize,
    /// Parts of a batch.
    pub shards: usize,
    /// Bytes that a process sent.
    pub bytes_per_step: f64,
    /// Seconds in which gradients, norms and parameters went to and fro.
    pub seconds_per_step: f64,
    /// Seconds in which the first process waited for the others.
    pub waited_per_step: f64,
}

impl Communication {
    /// Of a run by several processes.
    pub(crate) fn of(
        processes: &Collective,
        config: &RunConfig,
        (traffic, steps): (Traffic, u64),
    ) -> Option<Self> {
        let steps = steps.max(1) as f64;
        (!processes.is_alone()).then(|| Self {
            processes: processes.world(),
            shards: config.train.shards.unwrap_or(processes.world()),
            bytes_per_step: traffic.bytes as f64 / steps,
            seconds_per_step: traffic.seconds / steps,
            waited_per_step: traffic.waited / steps,
        })
    }

    /// In a line.
    pub(crate) fn words(&self) -> String {
        format!(
            "communication: {:.2} MB sent in {:.1} ms a step, and {:.1} ms of waiting for the others",
            self.bytes_per_step / 1e6,
            1e3 * self.seconds_per_step,
            1e3 * self.waited_per_step
        )
    }
}

/// The settings of a new run: those of the process that leads, for all. Where nothing is said of shards, there is one a process.
pub(crate) fn settings(config: RunConfig, processes: &Collective) -> Result<RunConfig, Error> {
    if processes.is_alone() {
        return Ok(config);
    }
    let mut own = config;
    own.train.shards.get_or_insert(processes.world());
    let text = processes.of_lead(own.to_toml().into_bytes())?;
    let text = String::from_utf8_lossy(&text);
    let config = RunConfig::parse(&text, Path::new("config.toml"), &[])?;
    config.validate()?;
    Ok(config)
}

/// The device that this process computes on.
pub(crate) fn device(config: &RunConfig, processes: &Collective) -> Device {
    match Launch::found() {
        Some(launch) if !processes.is_alone() => backend::of_process(config.device, launch.local),
        _ => config.device,
    }
}

/// Checks that all processes read the same data and model, and found the same checkpoint.
///
/// # Errors
/// In the processes that have another.
pub(crate) fn check_alike(
    processes: &Collective,
    fingerprint: &str,
    step: u64,
) -> Result<(), Error> {
    let lead = processes.of_lead(format!("{fingerprint} {step}").into_bytes())?;
    let differs = |what: &str| {
        Err(Error::Setting {
            reason: format!("process {} has {what} than the first", processes.rank()),
            hint: "all processes of a run read the same model, the same data and the same run directory: put them where every machine sees them".into(),
        })
    };
    let own = match String::from_utf8_lossy(&lead).split_once(' ') {
        Some((first, _)) if first != fingerprint => differs("other data or another model"),
        Some((_, first)) if first != step.to_string() => differs("another checkpoint"),
        _ => Ok(()),
    };
    processes.agree(own)
}

/// What is said in the plan of several processes.
pub(crate) fn note(processes: &Collective, config: &RunConfig) -> Option<String> {
    let (world, shards) = (processes.world(), config.train.shards);
    let shards = match (world, shards) {
        (1, None) => return None,
        (_, shards) => shards.unwrap_or(world),
    };
    let idle = match world.saturating_sub(shards) {
        0 => String::new(),
        idle => format!("; {idle} of them compute no gradients: raise train.shards"),
    };
    Some(format!(
        "{world} {} the work; each batch is cut into {shards} {}{idle}",
        if world == 1 {
            "process does"
        } else {
            "processes share"
        },
        if shards == 1 { "part" } else { "parts" },
    ))
}

/// Hears nothing: the process that leads writes.
struct Unheard;

impl Sink for Unheard {
    fn event(&mut self, _: &Event) {}
}

/// The part of a process that does not lead: whatever the one that leads does with the others, in the same order.
pub(crate) fn follow<B: TuneAutodiff>(
    mut opened: Opened<B>,
    model: Model<B>,
    run: &RunDir,
    config: &TrainConfig,
    checkpoint: Option<&Checkpoint>,
    observer: &dyn Observer,
    device: &B::Device,
) -> Result<(), Error> {
    // The base model's answers.
    opened.recipe.collective().agree(Ok::<_, Error>(()))?;
    if opened.recipe.compared() > 0 {
        opened.recipe.take_reference(&model.valid())?;
    }
    let outcome = rekindle_train::train(
        &opened.recipe,
        model,
        config,
        run,
        checkpoint,
        &mut Unheard,
        &|| observer.stop(),
        device,
    )?;
    if outcome.stopped == Stopped::Interrupted {
        return Ok(());
    }
    let evaluated = outcome.state.best.map(|best| best.step) == Some(outcome.state.step);
    let model = best_model(outcome, &opened.recipe, device)?;
    opened.recipe.evaluate_finally(&model, evaluated)?;
    opened.recipe.remarks(opened.units)?;
    Ok(())
}
