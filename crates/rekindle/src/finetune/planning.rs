//! The settings of the training loop, and the plan that is shown before the first step.

use super::{Opened, REPORT, RESULTS};
use crate::{
    Plan, RunConfig, answers,
    backend::described,
    config,
    figures::Watched,
    inputs::{self, Prepared},
    task::{Kind, Modality, Task},
};
use rekindle_base::counted;
use rekindle_data::TargetEncoder;
use rekindle_hub::Source;
use rekindle_models::Reads;
use rekindle_nn::TuneAutodiff;
use rekindle_train::{
    BestMetric, Between, Choose, EarlyStopping, Every, Job, OptimizerConfig, Schedule, TrainConfig,
    Warmup,
};
use std::{path::Path, time::Duration};

/// The longest that a run goes without a checkpoint, where nothing else is set.
const UNSAVED: Duration = Duration::from_secs(180);

pub(crate) fn train_config(
    config: &RunConfig,
    prepared: &Prepared,
    fingerprint: &str,
) -> TrainConfig {
    let train = &config.train;
    let validation = prepared.validation.as_ref().map_or(0, |set| set.len());
    let epochs = config.epochs(prepared.train.len(), prepared.encoder.outputs());
    TrainConfig {
        epochs,
        max_steps: train.max_steps.map(|n| n as u64),
        gradient_accumulation_steps: train.gradient_accumulation_steps,
        shards: train.shards,
        learning_rate: config.learning_rate(),
        schedule: match train.schedule {
            config::Schedule::Linear => Schedule::Linear,
            config::Schedule::Cosine => Schedule::Cosine,
            config::Schedule::Constant => Schedule::Constant,
        },
        warmup: match train.warmup_steps {
            Some(steps) => Warmup::Steps(steps as u64),
            None => Warmup::Ratio(train.warmup_ratio.unwrap_or(config::DEFAULT_WARMUP_RATIO)),
        },
        optimizer: OptimizerConfig {
            beta1: train.beta1,
            beta2: train.beta2,
            epsilon: train.epsilon,
            weight_decay: train.weight_decay,
        },
        max_grad_norm: train.max_grad_norm,
        seed: config.seed,
        evaluate: match config.eval.every {
            config::EvalEvery::Auto => {
                let batches = prepared.train.len().div_ceil(train.batch_size.max(1));
                let an_epoch = batches.div_ceil(train.gradient_accumulation_steps.max(1));
                let epochs = match train.max_steps {
                    Some(steps) => steps as f64 / an_epoch.max(1) as f64,
                    None => epochs,
                };
                match config.epochs_an_evaluation(epochs) {
                    1 => Every::Epoch,
                    each => Every::Steps(each * an_epoch as u64),
                }
            }
            config::EvalEvery::Epoch => Every::Epoch,
            config::EvalEvery::Steps(n) => Every::Steps(n as u64),
            config::EvalEvery::Never => Every::Never,
        },
        checkpoint_every: Some(match config.checkpoint.every_steps {
            Some(steps) => Between::Steps(steps as u64),
            None => Between::Time(UNSAVED),
        }),
        keep: config.checkpoint.keep,
        best: BestMetric {
            name: config.metric().name().to_owned(),
            higher_is_better: config.metric().higher_is_better(),
        },
        choose: match config.saves_best(validation) {
            true => Choose::Best,
            false => Choose::Last,
        },
        early_stopping: config
            .eval
            .early_stopping_patience
            .map(|patience| EarlyStopping {
                patience: patience as u32,
                min_delta: config.eval.early_stopping_min_delta,
            }),
        average_decay: train.ema_decay,
        fingerprint: fingerprint.to_owned(),
    }
}

pub(super) fn make_plan<B: TuneAutodiff>(
    config: &RunConfig,
    dir: &Path,
    opened: &Opened<B>,
    train: &TrainConfig,
) -> Plan {
    let Opened {
        recipe,
        prepared,
        base,
        ..
    } = opened;
    let (parameters, trainable) = opened.parameters;
    let batches = recipe.batches(0);
    let steps = train.total_steps(batches);
    let model_files = match (&opened.adapter, config.task.modality()) {
        (Some(_), _) => "final/ (an adapter for PEFT)",
        (None, Modality::Text) if config.task.kind() == Kind::Embedding => {
            "final/ (a model for sentence-transformers)"
        }
        (None, Modality::Text) => "final/ (a model for transformers)",
        (None, Modality::Images) => "final/ (a model for timm)",
    };
    let writes = [
        "config.toml",
        "plan.json",
        "metrics.jsonl",
        "log.txt",
        answers::FILE,
        "checkpoints/",
        model_files,
        RESULTS,
        REPORT,
        "tensorboard/",
    ];
    let epochs = match train.max_steps {
        Some(_) => steps as f64 / batches.max(1) as f64,
        None => train.epochs,
    };
    let layers = opened.adapter.as_ref().map(|(_, layers)| layers.clone());
    let objective = recipe.objective();
    let examples = |set: Option<usize>| set.unwrap_or(0);
    Plan {
        model: match &base.source {
            Source::Path => config.model.name.clone(),
            _ => base.name.clone(),
        },
        model_dir: base.dir.clone(),
        loaded: opened.loaded.summary(),
        method: opened.method.clone(),
        adapted_layers: layers.unwrap_or_default(),
        parameters,
        trainable,
        dataset: prepared.name.clone(),
        columns: prepared.columns.words(),
        answers: objective.described_as(),
        // The one output of a choice is its score, which has no name that says anything.
        labels: match objective.encoder() {
            TargetEncoder::Choice => Vec::new(),
            _ => opened.head.labels.clone(),
        },
        examples: [
            prepared.train.len(),
            examples(prepared.validation.as_ref().map(|set| set.len())),
            examples(prepared.test.as_ref().map(|set| set.len())),
        ],
        inputs: prepared.sizes.clone(),
        examples_per_step: config.train.batch_size * config.train.gradient_accumulation_steps,
        steps,
        warmup_steps: train.warmup.steps(steps),
        epochs: (epochs * 100.0).round() / 100.0,
        learning_rate: match config.head_learning_rate() {
            Some(head) if head != train.learning_rate => {
                format!(
                    "{:e}, {}; the head's {head:e}",
                    train.learning_rate,
                    config.train.schedule.name()
                )
            }
            _ => format!(
                "{:e}, {}",
                train.learning_rate,
                config.train.schedule.name()
            ),
        },
        memory: opened.memory.bytes,
        cost: None,
        gradient_checkpointing: opened.memory.gradient_checkpointing,
        device: match config.train.precision {
            config::Precision::F32 => described(config.device),
            precision => format!("{}, trained in {precision}", config.device),
        },
        output_dir: dir.to_owned(),
        writes: writes
            .into_iter()
            .filter(|&name| match name {
                answers::FILE => recipe.answering().is_some(),
                "tensorboard/" => config.report.tensorboard,
                _ => true,
            })
            .map(str::to_owned)
            .collect(),
        best_by: best_by(config, &objective.watched()),
        watched: objective.watched(),
        notes: (prepared.notes.iter().cloned())
            .chain(opened.memory.note())
            .chain(ratings_note(config, &opened.head.labels))
            .chain(warmup_note(train, steps))
            .chain(choice_note(config, prepared, train))
            .chain(pooling_note(config, opened))
            .chain(new_tokens_note(config, steps))
            .collect(),
    }
}

/// A word where classes read like ratings.
fn ratings_note(config: &RunConfig, labels: &[String]) -> Option<String> {
    const FEWEST: usize = 4;
    let mut numbers: Vec<usize> = labels
        .iter()
        .map(|label| label.parse().ok())
        .collect::<Option<_>>()?;
    numbers.sort_unstable();
    let ratings = numbers.len() >= FEWEST && numbers.iter().copied().eq(1..=numbers.len());
    (config.task == Task::TextClassification && ratings).then(|| {
        format!(
            "1 to {} are learned as classes; --task text-regression learns them as numbers, of which 1 is nearer to 2 than to {}",
            numbers.len(),
            numbers.len()
        )
    })
}

/// A word where new tokens have little time to become something.
fn new_tokens_note(config: &RunConfig, steps: u64) -> Option<String> {
    const FEW: u64 = 100;
    let added = config.model.add_tokens.len();
    (added > 0 && steps < FEW).then(|| {
        format!(
            "new tokens begin as the mean of the others: {steps} steps may be too few to learn them; raise train.epochs where answers go astray"
        )
    })
}

/// A word where a model was made to be read by the mean of its tokens, and there is little to learn another way from.
fn pooling_note<B: TuneAutodiff>(config: &RunConfig, opened: &Opened<B>) -> Option<String> {
    const FEW: usize = 20;
    let Opened { base, prepared, .. } = opened;
    let model = opened.pretrained.config();
    let encoder = model.text.is_some() && !model.is_decoder();
    // A head for words or tokens reads each of them, and what is compared has no head.
    let pools = encoder
        && (config.task.kind() == Kind::Choice || !prepared.encoder.kind().has_rows())
        && config.peft.method != config::Method::Setfit
        && !model.transformers_reads_means();
    let unasked = pools && config.model.pooling == config::Pooling::Auto;
    if unasked && model.reads() == Reads::Mean {
        return Some("the model was saved without a pooler or head: the mean of its tokens is read, which no class of transformers does, so that only rekindle predict answers as this run does; model.pooling = \"cls\" reads the first token, as transformers will".to_owned());
    }
    let few = prepared.train.len() < FEW * prepared.encoder.outputs();
    let of_classes = config.task == Task::TextClassification;
    (few && unasked && of_classes && inputs::pools_by_mean(&base.dir)).then(|| {
        "this model was made to be read by the mean of its tokens: with so few examples a label, model.pooling = \"mean\" is often more right, but transformers then cannot load the result as a classifier".to_owned()
    })
}

/// A word where the last model is saved because there is too little to choose by.
fn choice_note(config: &RunConfig, prepared: &Prepared, train: &TrainConfig) -> Option<String> {
    let validation = prepared.validation.as_ref().map_or(0, |set| set.len());
    let unasked = config.eval.choose == config::ModelChoice::Auto;
    let told = unasked && train.choose == Choose::Last && train.evaluate != Every::Never;
    (told && validation > 0).then(|| {
        format!(
            "{} cannot tell which checkpoint is the best: the model of the last step is saved (eval.choose = \"best\" saves the best all the same)",
            counted(validation, "validation example", "validation examples")
        )
    })
}

/// A word where less is warmup than was asked for.
fn warmup_note(train: &TrainConfig, steps: u64) -> Option<String> {
    let (wanted, warmup) = (train.warmup.wanted(steps), train.warmup.steps(steps));
    // Of a run of a step or two that is nobody's wish.
    (warmup < wanted && wanted > 1).then(|| {
        format!(
            "{wanted} steps of warmup were asked for; of {steps} steps {warmup} are, half the run"
        )
    })
}

/// The figure that makes a checkpoint the best, as people read it.
fn best_by(config: &RunConfig, watched: &[Watched]) -> String {
    let key = config.metric().name();
    let named = watched.iter().find(|figure| figure.key == key);
    named.map_or_else(|| key.replace('_', " "), |figure| figure.name.clone())
}
