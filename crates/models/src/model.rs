//! A backbone with a head: what is loaded, tuned and saved.
//!
//! A backbone is a row of units from the bottom to the top (text: embeddings, each layer; pictures: stem, stages, last
//! convolution), so that a frozen beginning can be computed once and its output kept.

use crate::{
    Activations, Asked, Decoder, Encoder, ExampleHead, Head, HeadSpec, Input, LoadReport,
    ModelConfig, ModelError, NextTokenHead, NextTokens, NoHead, Pretrained, Problem, Reads,
    TextInput,
    config::Sizes,
    encoder::{first_tokens, mean_by_sequence, sums_by_sequence},
    heads::Dense,
    image::PREPROCESSOR,
    image::{ConvNext, EfficientNet, MobileNet, ResNet, Vit},
    load::{self, Layout},
};
use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use rekindle_base::{HostTensor, write_atomically};
use rekindle_nn::{
    Sequences, adapter_slots, host,
    layers::{AdapterSlots, Slot, Weight},
    ops::{self, Pass, TuneBackend},
    params::{self, NameMap},
};
use rekindle_weights::ToWrite;
use std::path::Path;

/// Where a model's parts stand in its field paths.
const BACKBONE: &str = "backbone";
const HEAD: &str = "head";
/// The parameters of a language model that have a row for each token.
pub(crate) const VOCABULARY: [&str; 2] = ["backbone.embeddings.weight", "head.out.weight"];

/// A model without its head.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // there is one of it, and it is moved once
pub enum Backbone<B: Backend> {
    /// Texts.
    Encoder(Encoder<B>),
    /// Texts, from left to right.
    Decoder(Decoder<B>),
    /// Pictures.
    ResNet(ResNet<B>),
    /// Pictures.
    EfficientNet(EfficientNet<B>),
    /// Pictures.
    Vit(Vit<B>),
    /// Pictures.
    ConvNext(ConvNext<B>),
    /// Pictures.
    MobileNet(MobileNet<B>),
}

impl<B: Backend> AdapterSlots<B> for Backbone<B> {
    fn visit_slots(&mut self, path: &str, visit: &mut dyn FnMut(&str, Slot<'_, B>)) {
        match self {
            Self::Encoder(encoder) => encoder.visit_slots(path, visit),
            Self::Decoder(decoder) => decoder.visit_slots(path, visit),
            Self::Vit(net) => net.visit_slots(path, visit),
            Self::ConvNext(net) => net.visit_slots(path, visit),
            Self::ResNet(net) => net.visit_slots(path, visit),
            Self::EfficientNet(net) => net.visit_slots(path, visit),
            Self::MobileNet(net) => net.visit_slots(path, visit),
        }
    }
}

impl<B: Backend> Backbone<B> {
    /// The encoder, if it is one.
    pub fn encoder(&self) -> Option<&Encoder<B>> {
        match self {
            Self::Encoder(encoder) => Some(encoder),
            _ => None,
        }
    }

    /// The decoder, if it is one.
    pub fn decoder(&self) -> Option<&Decoder<B>> {
        match self {
            Self::Decoder(decoder) => Some(decoder),
            _ => None,
        }
    }

    fn units(&self) -> usize {
        match self {
            Self::Encoder(encoder) => 1 + encoder.layers(),
            // The last norm counts as one.
            Self::Decoder(decoder) => 2 + decoder.layers(),
            Self::ResNet(net) => net.units(),
            Self::EfficientNet(net) => net.units(),
            Self::Vit(net) => net.units(),
            Self::ConvNext(net) => net.units(),
            Self::MobileNet(net) => net.units(),
        }
    }

    /// The unit of a parameter, by its path below the backbone.
    fn unit_of(&self, path: &str) -> Option<usize> {
        match self {
            Self::Encoder(encoder) => match path.strip_prefix("layers.") {
                Some(rest) => Some(1 + rest.split('.').next()?.parse::<usize>().ok()?),
                // The last norm goes with the last layer.
                None if path.starts_with("norm") => Some(encoder.layers()),
                None => Some(0),
            },
            Self::Decoder(decoder) => match path.strip_prefix("layers.") {
                Some(rest) => Some(1 + rest.split('.').next()?.parse::<usize>().ok()?),
                None if path.starts_with("norm") => Some(1 + decoder.layers()),
                None => Some(0),
            },
            Self::ResNet(_) => crate::image::resnet::unit_of(path),
            Self::EfficientNet(_) => crate::image::efficientnet::unit_of(path),
            Self::Vit(net) => net.unit_of(path),
            Self::ConvNext(net) => net.unit_of(path),
            Self::MobileNet(net) => net.unit_of(path),
        }
    }
}

/// A backbone with a head.
#[derive(Module, Debug)]
pub struct Model<B: Backend> {
    backbone: Backbone<B>,
    head: Head<B>,
    #[module(skip)]
    reads: Reads,
    #[module(skip)]
    names: NameMap,
    #[module(skip)]
    head_modules: &'static [&'static str],
    #[module(skip)]
    sizes: Sizes,
}

adapter_slots!(Model { backbone, head });

impl<B: Backend> Model<B> {
    /// With random weights, made when they are first used.
    pub fn random(config: &ModelConfig, head: &HeadSpec, device: &B::Device) -> Self {
        let family = config.family_entry();
        let (names, seed) = (family.names_for(head.problem), head.seed);
        let of_each = match head.problem {
            Problem::Tokens => config.token_head,
            Problem::Span => config.span_head,
            _ => None,
        };
        let (reads, mut of_head) = match of_each {
            Some(of_each) => (Reads::Each, of_each),
            None => (
                head.reads.unwrap_or_else(|| config.reads()),
                match head.problem {
                    Problem::Choice => config.choice_head.unwrap_or(config.head),
                    _ => config.head,
                },
            ),
        };
        // BERT's pooler is for the first token.
        if reads == Reads::Mean && of_head.dense == Dense::Tanh {
            of_head.dense = Dense::None;
        }
        let backbone = match &config.sizes {
            Sizes::Encoder(sizes) => {
                Backbone::Encoder(Encoder::init(sizes, BACKBONE, names, seed, device))
            }
            Sizes::Decoder(sizes) => {
                Backbone::Decoder(Decoder::init(sizes, BACKBONE, names, seed, device))
            }
            Sizes::ResNet(sizes) => Backbone::ResNet(ResNet::init(sizes, seed, device)),
            Sizes::EfficientNet(sizes) => {
                Backbone::EfficientNet(EfficientNet::init(*sizes, seed, device))
            }
            Sizes::Vit(sizes) => Backbone::Vit(Vit::init(sizes, seed, device)),
            Sizes::ConvNext(sizes) => Backbone::ConvNext(ConvNext::init(sizes, seed, device)),
            Sizes::MobileNet(sizes) => Backbone::MobileNet(MobileNet::init(sizes, seed, device)),
        };
        Self {
            backbone,
            head: match &config.sizes {
                Sizes::Decoder(sizes) => {
                    Head::NextToken(NextTokenHead::init(sizes, HEAD, names, seed, device))
                }
                _ if head.problem == Problem::Embedding => {
                    Head::None(NoHead::new(config.features()))
                }
                _ => Head::Example(ExampleHead::init(
                    &of_head,
                    head.outputs,
                    HEAD,
                    names,
                    seed,
                    device,
                )),
            },
            reads,
            names,
            head_modules: family.head_modules_for(head.problem),
            sizes: config.sizes.clone(),
        }
    }

    /// Loads a model. A head for exactly these outputs is loaded; another is replaced by a new one, which the report says.
    /// Weights that are loaded are never drawn before, and held once.
    ///
    /// # Errors
    /// See [`ModelError`]; every tensor that has no place and every parameter that has no tensor is named.
    pub fn from_pretrained(
        pretrained: &Pretrained,
        head: &HeadSpec,
        device: &B::Device,
    ) -> Result<(Self, LoadReport), ModelError> {
        let config = pretrained.config();
        let family = config.family_entry();
        let mut model = Self::random(config, head, device);
        let placed = match pretrained.keeps_blocks() {
            true => model.keep_blocks(pretrained, device)?,
            false => Vec::new(),
        };
        // Classes of transformers that have a head of their own, or none: for whole examples, for tokens, for answers, for choices.
        let class_of = |problem: Option<Problem>| match problem {
            Some(
                own @ (Problem::Tokens | Problem::Span | Problem::Choice | Problem::Embedding),
            ) => own,
            _ => Problem::SingleLabel,
        };
        let (stored, wanted) = (class_of(config.problem), class_of(Some(head.problem)));
        let is_head_for = |problem: Problem, name: &str| {
            let modules = family.head_modules_for(problem).iter();
            modules.copied().any(|module| below(module, name))
        };
        let is_head = |name: &str| is_head_for(wanted, name);
        let is_pooler = |name: &str| family.pooler.is_some_and(|pooler| below(pooler, name));
        let same = head.require
            || (matches!(wanted, Problem::Span | Problem::Choice) && stored == wanted)
            || (config.outputs == head.outputs
                && config.labels == head.labels
                && config.problem.is_none_or(|problem| problem == head.problem));
        let model_names = model.names;
        let embeds = head.problem == Problem::Embedding;
        let dense = format!("{}.weight", model_names.published("head.dense"));
        let no_pooler = match (&model.head, model.reads) {
            _ if embeds => Some("an embedding reads no pooler"),
            (Head::Example(head), _) if head.has_dense() && is_pooler(&dense) => None,
            (_, Reads::First) => Some("the head reads no pooler"),
            (_, Reads::Mean) => Some("mean pooling reads no pooler"),
            (_, Reads::Each) => Some("a head for tokens reads no pooler"),
        };
        let pooler = family.pooler.and_then(|pooler| pooler.rsplit('.').next());
        let pooler = pooler.unwrap_or_default();
        let rules = load::Rules {
            names: model.names,
            rule: &|tensor| match (pretrained.rule(tensor), no_pooler) {
                (load::Rule::Load(name), Some(why)) if is_pooler(&name) => {
                    load::Rule::Ignore(why.into())
                }
                (load::Rule::Load(name), _) if stored != wanted && is_head_for(stored, &name) => {
                    load::Rule::Ignore(match embeds {
                        true => "an embedding reads no head".into(),
                        false => format!("the head of {}", config.architecture()),
                    })
                }
                (load::Rule::Load(name), _) if embeds => {
                    load::Rule::Load(family.without_root(&name).to_owned())
                }
                (rule, _) => rule,
            },
            may_initialise: &|name| match head.require {
                true => None,
                false if is_head(name) => Some(format!("the checkpoint has no {}", family.head)),
                false if is_pooler(name) => Some(format!("the checkpoint has no {pooler}")),
                false => None,
            },
            may_replace: &|name| {
                (is_head(name) && !same)
                    .then(|| "the checkpoint's head is for other labels".to_owned())
            },
            layout: &|name| config.layout(name),
            placed,
            grows: &|name| {
                let path = model_names.field(name);
                config.is_decoder() && VOCABULARY.contains(&path.as_str())
            },
        };
        load::load(model, pretrained.files(), &rules, device)
    }

    /// Puts quantized blocks where they belong, as they lie; returns the published names of these weights, with their
    /// number of values.
    fn keep_blocks(
        &mut self,
        pretrained: &Pretrained,
        device: &B::Device,
    ) -> Result<Vec<(String, usize)>, ModelError> {
        let (names, files) = (self.names, pretrained.files());
        let wanted = load::sort_tensors(files, &|tensor| pretrained.rule(tensor))?.wanted;
        let (mut placed, mut failed) = (Vec::new(), None);
        let mut keep = |path: String, weight: &mut Weight<B>| {
            let name = names.published(&path);
            if !pretrained.keeps_blocks_of(&name) {
                return;
            }
            let stored = wanted.get(&name).and_then(|tensor| files.stored(tensor));
            let Some(stored) = stored.filter(|stored| stored.shape == weight.dims()) else {
                return;
            };
            match stored.grouped() {
                Ok(None) => {}
                Ok(Some(found)) => {
                    *weight = Weight::Grouped(load::grouped(found, device));
                    placed.push((name, weight.dims().iter().product()));
                }
                Err(error) => failed = Some(error),
            }
        };
        self.visit_slots("", &mut |path, slot| {
            if let Slot::Linear(linear) = slot {
                keep(format!("{path}.weight"), &mut linear.weight);
            }
        });
        if let Backbone::Decoder(decoder) = &mut self.backbone {
            keep(format!("{BACKBONE}.embeddings.weight"), decoder.table_mut());
        }
        if let Head::NextToken(NextTokenHead { out: Some(out), .. }) = &mut self.head {
            keep(format!("{HEAD}.out.weight"), &mut out.weight);
        }
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(placed),
        }
    }

    /// Field paths to the names of checkpoints.
    pub fn names(&self) -> NameMap {
        self.names
    }

    /// Published names of the modules that are new with a new head: `classifier`, `fc`, or DistilBERT's `pre_classifier` and
    /// `classifier`. BERT's pooler is none of them: see [`LoadReport::initialised`] for whether it is new.
    pub fn head_modules(&self) -> Vec<String> {
        let modules = self.head_modules.iter();
        modules.map(|module| (*module).to_owned()).collect()
    }

    /// Which rows of a text's hidden states the head reads.
    pub fn reads(&self) -> Reads {
        self.reads
    }

    /// C; of an embedding D; of a language model 2, see [`forward`](Self::forward).
    pub fn outputs(&self) -> usize {
        match &self.head {
            Head::Example(head) => head.outputs(),
            Head::NextToken(_) => 2,
            Head::None(head) => head.width,
        }
    }

    /// D: width of what the backbone's pooling gives.
    pub fn width(&self) -> usize {
        match &self.sizes {
            Sizes::Encoder(sizes) => sizes.hidden_size,
            Sizes::Decoder(sizes) => sizes.hidden_size,
            _ => self.output_weight().map_or(0, |weight| weight.dims()[1]),
        }
    }

    /// The backbone.
    pub fn backbone(&self) -> &Backbone<B> {
        &self.backbone
    }

    /// Sets every dropout of a backbone for texts and of the head, in [0, 1).
    #[must_use]
    pub fn with_dropout(mut self, rate: f64) -> Self {
        if let Head::Example(head) = self.head {
            self.head = Head::Example(head.with_dropout(rate));
        }
        self.backbone = match self.backbone {
            Backbone::Encoder(encoder) => Backbone::Encoder(encoder.with_dropout(rate)),
            Backbone::Decoder(decoder) => Backbone::Decoder(decoder.with_dropout(rate)),
            other => other,
        };
        self
    }

    /// Replaces the head's last linear map by this weight `[C, D]` and bias `[C]`: to start from given values.
    #[must_use]
    pub fn with_output(mut self, weight: Tensor<B, 2>, bias: Tensor<B, 1>) -> Self {
        if let Head::Example(head) = self.head {
            self.head = Head::Example(head.with_output(weight, bias));
        }
        self
    }

    /// Whether a parameter, by its published name, is in one of [`head_modules`](Self::head_modules).
    pub fn is_head(&self, name: &str) -> bool {
        self.head_modules.iter().any(|module| below(module, name))
    }

    /// The weight `[C, D]` of the head's last linear map, or `[V, D]`; `None` of an embedding.
    pub fn output_weight(&self) -> Option<&Weight<B>> {
        match (&self.head, &self.backbone) {
            (Head::None(_), _) => None,
            (Head::Example(head), _) => Some(head.output_weight()),
            (Head::NextToken(head), Backbone::Decoder(decoder)) => Some(vocabulary(head, decoder)),
            (Head::NextToken(_), _) => unreachable!("a head for tokens stands on a decoder"),
        }
    }

    /// Number of units of the backbone.
    pub fn units(&self) -> usize {
        self.backbone.units()
    }

    /// Number of blocks: layers of a model for texts and of a vision transformer, stages of another one for pictures.
    pub fn blocks(&self) -> usize {
        match &self.backbone {
            Backbone::Encoder(encoder) => encoder.layers(),
            Backbone::Decoder(decoder) => decoder.layers(),
            Backbone::ResNet(_) | Backbone::EfficientNet(_) | Backbone::MobileNet(_) => {
                self.units()
            }
            Backbone::ConvNext(_) => self.units() - 1,
            Backbone::Vit(net) => net.blocks(),
        }
    }

    /// The units that the last so many blocks make up: a last norm that is a unit of its own goes with them.
    pub fn last_units(&self, blocks: usize) -> usize {
        match &self.backbone {
            Backbone::Decoder(_) | Backbone::Vit(_) | Backbone::ConvNext(_) => {
                blocks.saturating_add(1)
            }
            _ => blocks,
        }
    }

    /// The unit of a parameter, by its published name; `None` for the head (and BERT's pooler).
    pub fn unit_of(&self, name: &str) -> Option<usize> {
        let path = self.names.field(name);
        let path = path.strip_prefix(BACKBONE)?.strip_prefix('.')?;
        self.backbone.unit_of(path)
    }

    /// Of each unit, whether it holds something that trains.
    pub fn training_units(&self) -> Vec<bool> {
        let mut trains = vec![false; self.units()];
        params::visit(self, &mut |param: params::ParamRef<'_, B>| {
            let unit = self.unit_of(&self.names.published(param.path));
            if let (true, Some(unit)) = (param.trainable, unit) {
                trains[unit] = true;
            }
        });
        trains
    }

    /// How many units at the bottom hold nothing that trains.
    pub fn frozen_units(&self) -> usize {
        let trains = self.training_units();
        trains.iter().take_while(|&&trains| !trains).count()
    }

    /// So many of the frozen units at the bottom put out something that can be kept: of a backbone for images any number, of
    /// an encoder all or none.
    pub fn cuttable_units(&self) -> usize {
        let frozen = self.frozen_units();
        match &self.sizes {
            Sizes::Encoder(_) | Sizes::Decoder(_) if frozen < self.units() => 0,
            _ => frozen,
        }
    }

    /// Rows and columns of the feature maps after so many units, for square pictures of this side; 0 for texts.
    pub fn map_after(&self, units: usize, side: usize) -> [usize; 2] {
        match &self.sizes {
            Sizes::Encoder(_) | Sizes::Decoder(_) => [0; 2],
            Sizes::ResNet(config) => [config.side_after(units, side); 2],
            Sizes::EfficientNet(_) => [crate::image::efficientnet::side_after(units, side); 2],
            Sizes::Vit(config) => config.map_after(units, side),
            Sizes::ConvNext(config) => [config.side_after(units, side); 2],
            Sizes::MobileNet(config) => [config.side_after(units, side); 2],
        }
    }

    /// Writes `config.json` and `model.safetensors` as transformers or timm does; adapters must have been merged or saved
    /// apart.
    ///
    /// # Errors
    /// When a file cannot be written, or the device does not give the weights back.
    pub fn save_pretrained(
        &self,
        dir: &Path,
        config: &ModelConfig,
        head: &HeadSpec,
    ) -> Result<(), ModelError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| ModelError::Io { path, source }
        };
        std::fs::create_dir_all(dir).map_err(io(dir))?;
        rekindle_weights::write(&dir.join("model.safetensors"), self.published(config), &[])?;
        let mut files = vec![("config.json", self.config_json(config, head))];
        if let Some(pictures) = config
            .pictures
            .as_ref()
            .filter(|_| config.is_of_transformers())
        {
            files.push((PREPROCESSOR, pictures.to_preprocessor()));
        }
        files.into_iter().try_for_each(|(name, json)| {
            let path = dir.join(name);
            write_atomically(&path, format!("{json:#}\n").as_bytes()).map_err(io(&path))
        })
    }

    /// What `config.json` says of this model, tuned from `config` with this head.
    pub fn config_json(&self, config: &ModelConfig, head: &HeadSpec) -> serde_json::Value {
        config.to_json(head, self.reads)
    }

    /// Its tensors under the names and in the layouts of transformers or timm, each read from the device when asked for.
    pub fn published(&self, config: &ModelConfig) -> Vec<(String, ToWrite<'static>)> {
        let mut state = Vec::new();
        params::visit(self, &mut |param: params::ParamRef<'_, B>| {
            let name = self.names.published(param.path);
            let (mut shape, value) = (param.shape.as_slice().to_vec(), param.value);
            let read = move || host::to_host::<B>(value.clone());
            let layout = config.layout(&name);
            let name = match config.entry.in_files {
                Some(names) => names.published(&name),
                None => name,
            };
            let tensor = match layout {
                Layout::Transposed => {
                    shape.reverse();
                    ToWrite::new(shape, move || read().map(|tensor| load::transpose(&tensor)))
                }
                Layout::Pointwise => {
                    shape.extend([1, 1]);
                    let as_stored = shape.clone();
                    ToWrite::new(shape, move || {
                        read().map(|tensor| HostTensor {
                            shape: as_stored.clone(),
                            ..tensor
                        })
                    })
                }
                Layout::Same | Layout::Positions { .. } => ToWrite::new(shape, read),
            };
            state.push((name, tensor));
        });
        state
    }
}

/// The map to the vocabulary `[V, D]`: one of its own, or the embeddings.
fn vocabulary<'a, B: Backend>(
    head: &'a NextTokenHead<B>,
    decoder: &'a Decoder<B>,
) -> &'a Weight<B> {
    head.out
        .as_ref()
        .map_or_else(|| decoder.table(), |out| &out.weight)
}

/// Whether a name is a module's or lies below it.
fn below(module: &str, name: &str) -> bool {
    name.strip_prefix(module)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl<B: TuneBackend> Model<B> {
    /// The model whose output `i` is `factors[i]` times what it was, plus `offsets[i]`: the head's last linear map takes both
    /// up. As many of each as there are outputs.
    #[must_use]
    pub fn with_scaled_output(mut self, factors: &[f64], offsets: &[f64]) -> Self {
        if let Head::Example(head) = self.head {
            self.head = Head::Example(head.with_scaled_output(factors, offsets));
        }
        self
    }

    /// The first `units` units of the backbone; after all of them, what the head reads.
    ///
    /// # Panics
    /// If a model for texts is given pictures, or the other way round.
    pub fn begin(&self, input: Input<B>, units: usize, pass: Pass) -> Activations<B> {
        let x = match input {
            Input::Text(input) => Activations::Text(input),
            Input::Images(pictures) => Activations::Map(pictures),
        };
        self.run(x, 0..units, pass)
    }

    /// The units after the first `units_done`, which put out `x`: what the head reads, [`Activations::Pooled`].
    ///
    /// # Panics
    /// If a model for texts is given pictures, or the other way round.
    pub fn finish(&self, x: Activations<B>, units_done: usize, pass: Pass) -> Activations<B> {
        self.run(x, units_done..self.units(), pass)
    }

    /// Some units, from what the ones before them put out.
    ///
    /// # Panics
    /// If that is what another kind of model puts out.
    pub fn run(
        &self,
        x: Activations<B>,
        units: std::ops::Range<usize>,
        pass: Pass,
    ) -> Activations<B> {
        let all = units.end >= self.units();
        match (&self.backbone, x) {
            (_, Activations::Pooled(x)) => Activations::Pooled(x),
            (_, x) if units.is_empty() && !all => x,
            (Backbone::Encoder(encoder), Activations::Text(input)) => {
                self.read(encoder, &input, units.end, pass.child(0))
            }
            (Backbone::Encoder(encoder), Activations::Tokens(x, sequences, asked)) => {
                let layers = units.start.saturating_sub(1)..units.end.saturating_sub(1);
                self.layers(encoder, x, sequences, layers, asked, pass.child(0))
            }
            (Backbone::Decoder(decoder), Activations::Text(input)) => {
                let state = decoder.begin(&input, pass.child(0));
                self.run(Activations::Decoding(state), 1..units.end.max(1), pass)
            }
            (Backbone::Decoder(decoder), Activations::Decoding(state)) => {
                let mut state = units.fold(state, |x, unit| decoder.unit(unit, x, pass.child(0)));
                if !all {
                    return Activations::Decoding(state);
                }
                match state.next.take() {
                    None => Activations::Tokens(state.x, state.sequences, None),
                    Some(next) => {
                        Activations::Next(ops::embedding_rows(state.x, next.rows.clone()), next)
                    }
                }
            }
            (_, Activations::Next(x, next)) => Activations::Next(x, next),
            (Backbone::Decoder(_), x @ Activations::Tokens(..)) => x,
            (Backbone::ResNet(net), Activations::Map(x)) => {
                let x = units.fold(x, |x, unit| net.unit(unit, x, pass));
                mapped(x, all)
            }
            (Backbone::EfficientNet(net), Activations::Map(x)) => {
                let x = units.fold(x, |x, unit| net.unit(unit, x, pass));
                mapped(x, all)
            }
            (Backbone::Vit(net), Activations::Map(x)) => {
                let x = units.fold(x, |x, unit| net.unit(unit, x, pass));
                mapped(x, all)
            }
            (Backbone::ConvNext(net), Activations::Map(x)) => {
                let x = units.fold(x, |x, unit| net.unit(unit, x, pass));
                mapped(x, all)
            }
            (Backbone::MobileNet(net), Activations::Map(x)) => {
                let x = units.fold(x, |x, unit| net.unit(unit, x, pass));
                mapped(x, all)
            }
            (Backbone::Encoder(_) | Backbone::Decoder(_), Activations::Map(_)) => {
                panic!("a model for texts was given pictures")
            }
            (_, Activations::Text(_) | Activations::Tokens(..) | Activations::Decoding(_)) => {
                panic!("a model was given what another kind of model puts out")
            }
        }
    }

    /// The embeddings of an encoder and its layers below unit `units`.
    fn read(
        &self,
        encoder: &Encoder<B>,
        input: &TextInput<B>,
        units: usize,
        pass: Pass,
    ) -> Activations<B> {
        let x = encoder.embed(input, pass);
        let sequences = input.sequences.clone();
        let asked = match self.reads {
            Reads::Each => input.asked.clone(),
            _ => Some(Asked::firsts(input.firsts.clone(), &sequences)),
        };
        let layers = 0..units.saturating_sub(1);
        self.layers(encoder, x, sequences, layers, asked, pass)
    }

    /// Some layers of an encoder; behind the last, what the head reads.
    fn layers(
        &self,
        encoder: &Encoder<B>,
        x: Tensor<B, 2>,
        sequences: Sequences,
        layers: std::ops::Range<usize>,
        asked: Option<Asked<B>>,
        pass: Pass,
    ) -> Activations<B> {
        if layers.end < encoder.layers() {
            let x = encoder.run(x, &sequences, layers, None, pass);
            return Activations::Tokens(x, sequences, asked);
        }
        let asked = match (self.reads, asked) {
            (Reads::Mean, _) => {
                let x = encoder.run(x, &sequences, layers, None, pass);
                return Activations::Pooled(mean_by_sequence(x, &sequences));
            }
            (Reads::Each, None) => {
                return Activations::Pooled(encoder.run(x, &sequences, layers, None, pass));
            }
            (_, Some(asked)) => asked,
            (Reads::First, None) => first_tokens(&sequences, &x.device()),
        };
        Activations::Pooled(match layers.is_empty() {
            true => ops::embedding_rows(x, asked.tokens),
            false => encoder.run(x, &sequences, layers, Some(&asked), pass),
        })
    }

    /// Outputs of what the head reads: see [`forward`](Self::forward).
    ///
    /// # Panics
    /// If it is not what this head reads.
    pub fn head(&self, x: Activations<B>, pass: Pass) -> Tensor<B, 2> {
        match (&self.head, x) {
            (Head::Example(head), Activations::Pooled(x)) => head.forward(x, pass),
            (Head::NextToken(_), Activations::Next(x, next)) => self.next_tokens(x, &next, pass),
            (Head::None(_), Activations::Pooled(x)) => x,
            _ => panic!("a head was given what it does not read"),
        }
    }

    /// What the head's last linear map reads, before dropout: `[B, D]`.
    pub fn features(&self, x: Tensor<B, 2>, pass: Pass) -> Tensor<B, 2> {
        match &self.head {
            Head::Example(head) => head.features(x, pass),
            Head::NextToken(_) | Head::None(_) => x,
        }
    }

    /// Logits `[B, C]`, or the embeddings `[B, D]`; of a head for tokens `[Q, C]`, of those that the input asks for, else of all. Of a language model: for each of the G groups of tokens that count (usually one a sequence, see
    /// [`NextTokens`](crate::NextTokens)) the sum of their losses, `[G, 1]`, and in evaluation how many of them the model would
    /// have chosen, `[G, 2]`. Logits of the vocabulary are never held.
    ///
    /// # Panics
    /// If a model for texts is given pictures, or the other way round; if a language model is given texts without
    /// [`NextTokens`](crate::NextTokens).
    pub fn forward(&self, input: Input<B>, pass: Pass) -> Tensor<B, 2> {
        self.head(self.begin(input, self.units(), pass), pass)
    }

    /// Sums by example of the losses of hidden states `[R, D]`, and in evaluation of the tokens that the model would choose.
    fn next_tokens(&self, x: Tensor<B, 2>, next: &NextTokens<B>, pass: Pass) -> Tensor<B, 2> {
        let (weight, targets) = (self.vocabulary().val(), next.targets.clone());
        if pass.is_training() {
            let losses = ops::next_token_losses(x, weight, targets, self.softcap());
            return sums_by_sequence(losses.unsqueeze_dim(1), &next.sequences);
        }
        let (losses, best) = ops::next_token_best(x, weight, targets.clone(), self.softcap());
        let right: Tensor<B, 1> = best.equal(targets).float();
        let columns = Tensor::stack(vec![losses, right], 1);
        sums_by_sequence(columns, &next.sequences)
    }

    /// Logits `[R, V]` of hidden states `[R, D]` of a language model: for generation, where R is small.
    pub fn vocabulary_logits(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let logits = self.vocabulary().linear(x, None, ops::Precision::F32);
        ops::capped(logits, self.softcap())
    }

    /// The map to the vocabulary `[V, D]` of a language model.
    fn vocabulary(&self) -> &Weight<B> {
        match (&self.head, &self.backbone) {
            (Head::NextToken(head), Backbone::Decoder(decoder)) => vocabulary(head, decoder),
            _ => unreachable!("a head for tokens stands on a decoder"),
        }
    }

    /// The cap of a language model's logits.
    fn softcap(&self) -> Option<f64> {
        match &self.head {
            Head::NextToken(head) => head.softcap,
            Head::Example(_) | Head::None(_) => None,
        }
    }
}

/// A map `[N, H, W, C]`, or its mean over each picture, `[N, C]`.
fn mapped<B: TuneBackend>(x: Tensor<B, 4>, pooled: bool) -> Activations<B> {
    if !pooled {
        return Activations::Map(x);
    }
    let [n, height, width, channels] = x.dims();
    let x = x.reshape([n, height * width, channels]);
    Activations::Pooled(x.mean_dim(1).squeeze_dim::<2>(1))
}
