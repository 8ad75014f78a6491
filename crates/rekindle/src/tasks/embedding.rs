//! Sentence embeddings, learned from texts that belong together. `a` is an anchor's embedding, `d` any other of the batch.
//!
//! | loss | of an example | paper |
//! |---|---|---|
//! | mnrl | −log softmax of s cos(a, d) over all d of the batch, at the text that belongs to a | Henderson et al. 2017 |
//! | cosine | (cos(a, d) − score)² | Reimers and Gurevych 2019 |
//!
//! They are `MultipleNegativesRankingLoss` and `CosineSimilarityLoss` of sentence-transformers 6.2, with one difference: a text of the batch
//! that belongs to the anchor, though in another row, is none to choose wrongly. sentence-transformers keeps such rows apart
//! (`NO_DUPLICATES`), or lets them be. With `embedding.matryoshka_dims` the loss is the sum over beginnings of the embeddings (Kusupati
//! et al. 2022), as in `MatryoshkaLoss` with weights of 1.
//!
//! What embeddings are worth is a search among the set's own texts, as `InformationRetrievalEvaluator`, or how similarities go
//! with scores, as `EmbeddingSimilarityEvaluator`. The loss of an evaluation is that of batches as in training, in the order of the file.

use super::{Loss, Objective, Prediction, Wrong, classification::cross_entropy_of, shortest};
use crate::{
    RunConfig,
    config::{EmbeddingConfig, EmbeddingLoss},
    evaluation::Logits,
    figures::{Compared, Figures, Scalar, Section, Shown, Tile, Watched},
    inputs::ExampleOf,
    report::text::{figure, percent},
};
use burn::tensor::{Int, Tensor, TensorData};
use rekindle_base::counted;
use rekindle_data::{Related, TargetEncoder, Targets};
use rekindle_metrics::{Regression, Retrieval};
use rekindle_nn::{
    TuneBackend,
    ops::{self, CrossEntropy, Precision},
};
use serde_json::{Map, Value, json};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

/// What is added to the similarity of a text that is not to be chosen among.
const HIDDEN: f32 = -1e9;
/// The least length that an embedding is divided by.
const LEAST_NORM: f32 = 1e-12;
/// How many of the nearest texts are looked at.
const CUTOFFS: [usize; 3] = [1, 5, 10];

pub(super) struct Embedding {
    encoder: TargetEncoder,
    settings: EmbeddingConfig,
    batch_size: usize,
}

impl Embedding {
    pub(super) fn new(config: &RunConfig) -> Self {
        Self {
            encoder: TargetEncoder::Related,
            settings: config.embedding.clone(),
            batch_size: config.train.batch_size.max(1),
        }
    }

    /// The loss of rows like this one.
    fn loss_of(&self, row: Option<&Related>) -> EmbeddingLoss {
        let scored = row.is_some_and(|row| row.score.is_some());
        match (self.settings.loss, scored) {
            (EmbeddingLoss::Auto, true) | (EmbeddingLoss::Cosine, _) => EmbeddingLoss::Cosine,
            _ => EmbeddingLoss::Mnrl,
        }
    }

    /// The loss of each example of an evaluation, in batches as in training.
    fn losses_on_host(&self, found: &Found<'_>) -> Vec<f64> {
        if self.loss_of(found.rows.first()) == EmbeddingLoss::Cosine {
            let squared = |(row, texts): (&Related, &Vec<Vec<f32>>)| match &texts[..] {
                [a, b, ..] => (dot(a, b) - target(row)).powi(2),
                // A labelled text that stands alone.
                _ => 0.0,
            };
            return found.rows.iter().zip(&found.texts).map(squared).collect();
        }
        let mut losses = Vec::new();
        let rows: Vec<(Related, Vec<&[f32]>)> = found.as_learned();
        for batch in rows.chunks(self.batch_size) {
            let related: Vec<&Related> = batch.iter().map(|(row, _)| row).collect();
            let layout = Layout::of(&related);
            let texts: Vec<&[f32]> = batch.iter().flat_map(|(_, texts)| texts.clone()).collect();
            for (i, (&anchor, &positive)) in
                layout.anchors.iter().zip(&layout.positives).enumerate()
            {
                let others = layout.documents.iter().enumerate();
                let shown = others.filter(|(j, _)| !layout.is_hidden(i, *j));
                let similarities =
                    shown.map(|(_, &d)| self.settings.scale * dot(texts[anchor], texts[d]));
                let similarities: Vec<f64> = similarities.collect();
                let right = dot(texts[anchor], texts[layout.documents[positive]]);
                let right = self.settings.scale * right;
                losses.push(cross_entropy_of(similarities.iter().copied(), right));
            }
        }
        losses
    }
}

/// How alike the two texts of a row should be: those of a pair without a score belong together.
fn target(row: &Related) -> f64 {
    f64::from(row.score.unwrap_or(1.0))
}

fn rows_of(targets: &Targets) -> &[Related] {
    match targets {
        Targets::Related(rows) => rows,
        _ => &[],
    }
}

/// Which rows of a batch's embeddings are compared.
struct Layout {
    /// The anchor of each example `[N]`, among all rows.
    anchors: Vec<usize>,
    /// All other texts `[M]`, among all rows.
    documents: Vec<usize>,
    /// The text that belongs to each anchor `[N]`, among the documents.
    positives: Vec<usize>,
    /// `[N, M]`: texts of other rows that belong to the anchor too.
    hidden: Vec<bool>,
}

impl Layout {
    fn of(rows: &[&Related]) -> Self {
        let (mut anchors, mut documents, mut positives) = (Vec::new(), Vec::new(), Vec::new());
        // Of each document: what it is, and what anchor it belongs to.
        let mut kinds: Vec<(u32, Option<u32>)> = Vec::new();
        let mut first = 0;
        let kind = |row: &Related, text: u32| row.class.unwrap_or(text);
        for row in rows {
            anchors.push(first);
            positives.push(documents.len());
            let anchor = row.texts.first().map(|&text| kind(row, text));
            for (place, &text) in row.texts.iter().enumerate().skip(1) {
                documents.push(first + place);
                kinds.push((kind(row, text), anchor.filter(|_| place == 1)));
            }
            first += row.texts.len();
        }
        let mut hidden = Vec::with_capacity(rows.len() * documents.len());
        for (row, &positive) in rows.iter().zip(&positives) {
            let own = row.texts.first().map(|&text| kind(row, text));
            let right = kinds.get(positive).map(|(text, _)| *text);
            hidden.extend(kinds.iter().enumerate().map(|(j, (text, anchor))| {
                let belongs = Some(*text) == right
                    || Some(*text) == own
                    || anchor.is_some() && *anchor == own;
                j != positive && belongs
            }));
        }
        Self {
            anchors,
            documents,
            positives,
            hidden,
        }
    }

    fn is_hidden(&self, example: usize, document: usize) -> bool {
        self.hidden[example * self.documents.len() + document]
    }
}

/// Embeddings of an evaluation, of length 1.
struct Found<'a> {
    rows: &'a [Related],
    /// Of each row, of each of its texts.
    texts: Vec<Vec<Vec<f32>>>,
}

impl<'a> Found<'a> {
    fn of(outputs: &Logits, targets: &'a Targets) -> Self {
        let rows = rows_of(targets);
        let texts = rows.iter().enumerate().map(|(i, row)| {
            let values = outputs.row(i);
            let width = values.len() / row.texts.len().max(1);
            let texts = values.chunks_exact(width.max(1));
            texts.map(normalized).collect()
        });
        Self {
            rows,
            texts: texts.collect(),
        }
    }

    fn are_scored(&self) -> bool {
        self.rows.first().is_some_and(|row| row.score.is_some())
    }

    /// The rows as training takes them: beside a labelled text the next of its label.
    fn as_learned(&self) -> Vec<(Related, Vec<&[f32]>)> {
        let mut members: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (i, row) in self.rows.iter().enumerate() {
            members.entry(row.class.unwrap_or(0)).or_default().push(i);
        }
        let own = |i: usize| self.texts[i].iter().map(Vec::as_slice);
        let learned = self.rows.iter().enumerate().filter_map(|(i, row)| {
            let (Some(class), [text]) = (row.class, row.texts.as_slice()) else {
                return Some((row.clone(), own(i).collect()));
            };
            let others = &members[&class];
            let place = others.binary_search(&i).ok()?;
            let next = others[(place + 1) % others.len()];
            let pair = Related {
                texts: vec![*text, self.rows[next].texts[0]],
                ..row.clone()
            };
            (next != i).then(|| (pair, own(i).chain(own(next)).collect()))
        });
        learned.collect()
    }

    /// What is searched for in what.
    fn search(&self) -> Search<'_> {
        let mut search = Search::default();
        if self.rows.first().is_some_and(|row| row.class.is_some()) {
            // Each text among the others.
            let mut members: BTreeMap<Option<u32>, BTreeSet<usize>> = BTreeMap::new();
            for (i, row) in self.rows.iter().enumerate() {
                members.entry(row.class).or_default().insert(i);
            }
            let members: BTreeMap<_, _> = members
                .into_iter()
                .map(|(class, rows)| (class, Rc::new(rows)))
                .collect();
            for (i, (row, texts)) in self.rows.iter().zip(&self.texts).enumerate() {
                search.documents.push(&texts[0]);
                search.queries.push(Query {
                    row: i,
                    text: &texts[0],
                    alike: Rc::clone(&members[&row.class]),
                    itself: Some(i),
                });
            }
            return search;
        }
        let (mut queries, mut documents) = (BTreeMap::new(), BTreeMap::new());
        for (i, (row, texts)) in self.rows.iter().zip(&self.texts).enumerate() {
            let query = *queries.entry(row.texts[0]).or_insert_with(|| {
                search.queries.push(Query {
                    row: i,
                    text: &texts[0],
                    alike: Rc::default(),
                    itself: None,
                });
                search.queries.len() - 1
            });
            for (place, (&number, text)) in row.texts.iter().zip(texts).enumerate().skip(1) {
                let document = *documents.entry(number).or_insert_with(|| {
                    search.documents.push(text);
                    search.documents.len() - 1
                });
                if place == 1 {
                    Rc::make_mut(&mut search.queries[query].alike).insert(document);
                }
            }
        }
        search
    }
}

/// Texts, and those that belong to them among others.
#[derive(Default)]
struct Search<'a> {
    queries: Vec<Query<'a>>,
    documents: Vec<&'a [f32]>,
}

struct Query<'a> {
    /// Where it stands first.
    row: usize,
    text: &'a [f32],
    /// The documents that belong to it, it among them if it is one; of labelled texts one set for all of a label.
    alike: Rc<BTreeSet<usize>>,
    /// The document that it is.
    itself: Option<usize>,
}

impl Query<'_> {
    /// The documents to find.
    fn relevant(&self) -> Cow<'_, BTreeSet<usize>> {
        match self.itself {
            None => Cow::Borrowed(&self.alike),
            Some(itself) => {
                let mut others = BTreeSet::clone(&self.alike);
                others.remove(&itself);
                Cow::Owned(others)
            }
        }
    }
}

impl Search<'_> {
    fn similarities(&self, query: &Query<'_>) -> Vec<f32> {
        let mut all: Vec<f32> = self
            .documents
            .iter()
            .map(|d| dot(query.text, d) as f32)
            .collect();
        if let Some(itself) = query.itself {
            all[itself] = f32::NEG_INFINITY;
        }
        all
    }

    /// Of a query that has something to find: the place of the nearest text that belongs to it, from 1, its similarity, and that of the nearest of
    /// all.
    fn place(&self, query: &Query<'_>) -> Option<(usize, f64, f64)> {
        let all = self.similarities(query);
        let relevant = query.relevant();
        let own = relevant.iter().map(|&document| all[document]);
        let own = own.fold(f32::NEG_INFINITY, f32::max);
        let nearest = all.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let before = all.iter().filter(|&&other| other > own).count();
        (!relevant.is_empty()).then(|| (before + 1, f64::from(own), f64::from(nearest)))
    }
}

/// A vector of length 1.
pub(crate) fn normalized(values: &[f32]) -> Vec<f32> {
    let norm = dot(values, values).sqrt().max(f64::from(LEAST_NORM));
    values
        .iter()
        .map(|&value| (f64::from(value) / norm) as f32)
        .collect()
}

/// In lanes, so that a compiler may take several products at once.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    const LANES: usize = 16;
    let mut sums = [0.0f32; LANES];
    let (a_parts, b_parts) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_parts.remainder().iter().zip(b_parts.remainder());
    let rest: f32 = rest.map(|(a, b)| a * b).sum();
    for (a, b) in a_parts.zip(b_parts) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    f64::from(rest) + sums.iter().map(|&sum| f64::from(sum)).sum::<f64>()
}

impl Objective for Embedding {
    fn encoder(&self) -> &TargetEncoder {
        &self.encoder
    }

    fn described_as(&self) -> &'static str {
        "learns"
    }

    fn watched(&self) -> Vec<Watched> {
        vec![
            Watched::new("loss", "loss", false),
            Watched::new("ndcg_at_10", "nDCG@10", true),
            Watched::new("spearman", "Spearman", false),
        ]
    }

    fn compares_texts(&self) -> bool {
        true
    }

    fn compares_with_base(&self) -> bool {
        true
    }

    fn figures(&self, outputs: &Logits, targets: &Targets) -> Figures {
        use Shown::{Always, InFull};
        let found = Found::of(outputs, targets);
        let losses = self.losses_on_host(&found);
        let loss = losses.iter().sum::<f64>() / losses.len() as f64;
        let n = found.rows.len() as u64;
        let mut scalars = vec![Scalar::new("loss", "loss", loss, Always)];
        let (headline, mut tiles);
        let mut warnings = Vec::new();
        if found.are_scored() {
            let mut metrics = Regression::new(1);
            for (row, texts) in found.rows.iter().zip(&found.texts) {
                if let [a, b, ..] = &texts[..] {
                    // One number each.
                    let _ = metrics.update(&[dot(a, b)], &[target(row)]);
                }
            }
            let all = metrics.report().overall;
            headline = "spearman";
            scalars.extend([
                Scalar::new("spearman", "Spearman", all.spearman, Always),
                Scalar::new("pearson", "Pearson", all.pearson, Always),
            ]);
            tiles = vec![
                Tile::new(
                    "Spearman correlation",
                    format!("{:.3}", all.spearman),
                    "of cosines and scores".into(),
                ),
                Tile::new(
                    "Pearson correlation",
                    format!("{:.3}", all.pearson),
                    String::new(),
                ),
            ];
        } else {
            let search = found.search();
            let mut retrieval = Retrieval::new(&CUTOFFS);
            for query in &search.queries {
                retrieval.update(&search.similarities(query), &query.relevant());
            }
            let report = retrieval.report();
            let labelled = found.rows.first().is_some_and(|row| row.class.is_some());
            headline = "ndcg_at_10";
            for at in &report.at_k {
                let k = at.k;
                let mut add = |key: &str, name: &str, value, shown| {
                    let (key, name) = (format!("{key}_at_{k}"), format!("{name}@{k}"));
                    scalars.push(Scalar::new(&key, &name, value, shown));
                };
                if k == 1 {
                    add("accuracy", "accuracy", at.accuracy, Always);
                }
                match labelled {
                    true if k > 1 => add("precision", "precision", at.precision, InFull),
                    false => add("recall", "recall", at.recall, InFull),
                    true => {}
                }
                if k == CUTOFFS[CUTOFFS.len() - 1] {
                    add("mrr", "MRR", at.mrr, Always);
                    add("ndcg", "nDCG", at.ndcg, Always);
                }
            }
            let get = |key: &str| {
                let scalar = scalars.iter().find(|scalar| scalar.key == key);
                scalar.map_or(f64::NAN, |scalar| scalar.value)
            };
            if search.documents.len() == 1 {
                warnings.push(
                    "there is one text to find, so that whatever is found is right: a larger validation set tells more"
                        .into(),
                );
            }
            let searched = format!(
                "{} in {}",
                counted(report.n as usize, "query", "queries"),
                counted(search.documents.len(), "text", "texts")
            );
            tiles = vec![
                Tile::new("nDCG@10", format!("{:.3}", get("ndcg_at_10")), searched),
                Tile::new(
                    "nearest text right",
                    percent(get("accuracy_at_1")),
                    "accuracy@1".into(),
                ),
                Tile::new("MRR@10", format!("{:.3}", get("mrr_at_10")), String::new()),
            ];
        }
        tiles.push(Tile::new(
            "loss",
            figure(loss),
            self.loss_of(found.rows.first()).name().to_uppercase(),
        ));
        let compared = scalars.iter().map(Compared::of);
        Figures {
            n,
            headline: headline.into(),
            sections: vec![Section::Embeddings {
                rows: compared.collect(),
            }],
            scalars,
            tiles,
            warnings,
            guess: None,
        }
    }

    fn worst(&self, outputs: &Logits, targets: &Targets, most: usize) -> Vec<Wrong> {
        let found = Found::of(outputs, targets);
        let wrong = |row, right, said, loss| Wrong {
            row,
            right,
            said,
            probability: None,
            loss,
            top: Vec::new(),
            words: None,
        };
        let mut all: Vec<Wrong> = if found.are_scored() {
            let rows = found.rows.iter().zip(&found.texts).enumerate();
            let rows = rows.filter_map(|(i, (row, texts))| {
                let [a, b, ..] = &texts[..] else { return None };
                let (right, said) = (target(row), dot(a, b));
                let loss = (right - said).powi(2);
                Some(wrong(i, format!("{right:.3}"), format!("{said:.3}"), loss))
            });
            rows.collect()
        } else {
            let search = found.search();
            let queries = search.queries.iter().filter_map(|query| {
                let (place, own, nearest) = search.place(query)?;
                let right = format!("place {place}, similarity {own:.3}");
                let said = format!("the nearest, similarity {nearest:.3}");
                (place > 1).then(|| wrong(query.row, right, said, nearest - own))
            });
            queries.collect()
        };
        all.sort_by(|a, b| b.loss.total_cmp(&a.loss));
        all.truncate(most);
        all
    }

    fn scored(
        &self,
        outputs: &Logits,
        targets: &Targets,
        row: usize,
        _: ExampleOf<'_>,
    ) -> Map<String, Value> {
        let related = &rows_of(targets)[row];
        let mut line = Map::new();
        if let Some(score) = related.score {
            line.insert("score".into(), json!(score));
        }
        if let Some(similarity) = first_two(outputs.row(row), related.texts.len()) {
            line.insert("similarity".into(), json!(shortest(similarity)));
        }
        line
    }

    fn answer(&self, outputs: &[f32], _: ExampleOf<'_>) -> Prediction {
        let values = outputs.iter().enumerate();
        Prediction::Numbers {
            values: values
                .map(|(i, &value)| (i.to_string(), f64::from(value)))
                .collect(),
        }
    }
}

/// The cosine of the first two of so many embeddings.
fn first_two(values: &[f32], texts: usize) -> Option<f64> {
    let width = values.len().checked_div(texts).filter(|_| texts > 1)?;
    let [a, b] = [0, 1].map(|i| normalized(&values[i * width..][..width]));
    Some(dot(&a, &b))
}

/// Rows `[R, D]` of length 1.
pub(super) fn unit_rows<B: TuneBackend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    let squares = (x.clone() * x.clone()).sum_dim(1);
    // The gradient of a root is infinite at 0.
    x / squares.clamp_min(f64::from(LEAST_NORM).powi(2)).sqrt()
}

/// Some rows of `x [R, D]`.
fn rows_at<B: TuneBackend>(x: &Tensor<B, 2>, rows: &[usize]) -> Tensor<B, 2> {
    let rows: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
    let rows: Tensor<B, 1, Int> = Tensor::from_data(TensorData::from(rows.as_slice()), &x.device());
    ops::embedding_rows(x.clone(), rows)
}

/// (cos − score)² of the first two texts of each row `[N]`, of embeddings `[R, D]`.
fn squared_errors<B: TuneBackend>(embeddings: &Tensor<B, 2>, rows: &[Related]) -> Tensor<B, 1> {
    let mut firsts = Vec::with_capacity(rows.len());
    let mut first = 0;
    for row in rows {
        firsts.push(first);
        first += row.texts.len();
    }
    let seconds: Vec<usize> = firsts.iter().map(|first| first + 1).collect();
    let [a, b] = [&firsts, &seconds].map(|rows| unit_rows(rows_at(embeddings, rows)));
    let right: Vec<f32> = rows.iter().map(|row| target(row) as f32).collect();
    let right: Tensor<B, 1> = Tensor::from_data(right.as_slice(), &embeddings.device());
    let error = (a * b).sum_dim(1).squeeze_dim::<1>(1) - right;
    error.clone() * error
}

impl Embedding {
    /// The losses `[N]` of embeddings `[R, D]`, or of their beginnings.
    fn of_width<B: TuneBackend>(
        &self,
        embeddings: &Tensor<B, 2>,
        rows: &[Related],
    ) -> Tensor<B, 1> {
        if self.loss_of(rows.first()) == EmbeddingLoss::Cosine {
            return squared_errors(embeddings, rows);
        }
        let layout = Layout::of(&rows.iter().collect::<Vec<_>>());
        let device = embeddings.device();
        let anchors = unit_rows(rows_at(embeddings, &layout.anchors));
        let documents = unit_rows(rows_at(embeddings, &layout.documents));
        let similarities =
            ops::linear(anchors, documents, None, Precision::F32) * self.settings.scale;
        let similarities = match layout.hidden.contains(&true) {
            false => similarities,
            true => {
                let hidden = layout
                    .hidden
                    .iter()
                    .map(|&hidden| if hidden { HIDDEN } else { 0.0 });
                let shape = [layout.anchors.len(), layout.documents.len()];
                let hidden = TensorData::new(hidden.collect::<Vec<f32>>(), shape);
                similarities + Tensor::from_data(hidden, &device)
            }
        };
        let right: Vec<i32> = layout.positives.iter().map(|&at| at as i32).collect();
        let right = Tensor::from_data(TensorData::from(right.as_slice()), &device);
        ops::cross_entropy(similarities, right, &CrossEntropy::default())
    }
}

impl<B: TuneBackend> Loss<B> for Embedding {
    fn losses(&self, embeddings: Tensor<B, 2>, targets: &Targets) -> Tensor<B, 1> {
        let rows = rows_of(targets);
        let Some(dims) = &self.settings.matryoshka_dims else {
            return self.of_width(&embeddings, rows);
        };
        let of = |&dim: &usize| self.of_width(&embeddings.clone().narrow(1, 0, dim), rows);
        let all: Vec<Tensor<B, 2>> = dims.iter().map(|dim| of(dim).unsqueeze_dim(1)).collect();
        Tensor::cat(all, 1).sum_dim(1).squeeze_dim::<1>(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(texts: &[u32]) -> Related {
        Related {
            texts: texts.to_vec(),
            class: None,
            score: None,
        }
    }

    #[test]
    fn what_belongs_to_an_anchor_is_never_a_wrong_choice() {
        // The second row has the first one's positive, the third its anchor, the fourth has nothing to do with it.
        let rows = [
            pair(&[0, 1]),
            pair(&[2, 1]),
            pair(&[0, 3]),
            pair(&[4, 5, 0]),
        ];
        let layout = Layout::of(&rows.iter().collect::<Vec<_>>());
        assert_eq!(layout.anchors, [0, 2, 4, 6]);
        assert_eq!(layout.documents, [1, 3, 5, 7, 8]);
        assert_eq!(layout.positives, [0, 1, 2, 3]);
        let hidden = |i| (0..5).map(|j| layout.is_hidden(i, j)).collect::<Vec<_>>();
        // Its own text as a hard negative of another row is none either.
        assert_eq!(hidden(0), [false, true, true, false, true]);
        assert_eq!(hidden(1), [true, false, false, false, false]);
        assert_eq!(hidden(3), [false; 5]);
        // Of labelled texts it is the label that counts.
        let of_class = |class, texts: &[u32]| Related {
            class: Some(class),
            ..pair(texts)
        };
        let rows = [
            of_class(0, &[0, 1]),
            of_class(1, &[2, 3]),
            of_class(0, &[4, 5]),
        ];
        let layout = Layout::of(&rows.iter().collect::<Vec<_>>());
        let hidden: Vec<bool> = (0..3).map(|j| layout.is_hidden(0, j)).collect();
        assert_eq!(hidden, [false, false, true]);
    }

    #[test]
    fn a_search_counts_each_text_once() {
        let embedding = |x: f32, y: f32| vec![x, y];
        let rows = vec![pair(&[0, 1]), pair(&[0, 2]), pair(&[3, 1, 4])];
        let outputs = Logits::of_rows([
            [embedding(1.0, 0.0), embedding(2.0, 0.1)].concat(),
            [embedding(1.0, 0.0), embedding(0.0, 1.0)].concat(),
            [
                embedding(0.0, 3.0),
                embedding(2.0, 0.1),
                embedding(1.0, 1.0),
            ]
            .concat(),
        ]);
        let targets = Targets::Related(rows);
        let found = Found::of(&outputs, &targets);
        let search = found.search();
        assert_eq!((search.queries.len(), search.documents.len()), (2, 3));
        assert_eq!(*search.queries[0].relevant(), BTreeSet::from([0, 1]));
        // The second query's text stands behind two others.
        assert_eq!(
            search.place(&search.queries[1]).map(|(place, ..)| place),
            Some(3)
        );
        let config = RunConfig::for_task(crate::task::Task::TextEmbedding);
        let figures = Embedding::new(&config).figures(&outputs, &targets);
        assert_eq!(figures.get("accuracy_at_1"), Some(0.5));
        assert_eq!(figures.get("recall_at_1"), Some(0.25));
        assert_eq!(figures.get("mrr_at_10"), Some((1.0 + 1.0 / 3.0) / 2.0));
    }
}
