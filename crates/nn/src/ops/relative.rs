//! Attention with relative positions: what the distance of two tokens adds to their score. Either a number a head and distance
//! (T5, Raffel et al. 2020; MPNet, Song et al. 2020), or the products of the query with a key of the distance and of the key with
//! a query of the distance (DeBERTa, He et al. 2021). The distance is the query's place in its sequence minus the key's.

use super::{
    AttentionConfig, AttentionGrads, Sequences, TuneBackend,
    attention::{Padded, nothing},
    primitive, tensor,
};
use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData, ops::FloatTensor};
use std::{ops::Range, sync::Arc};

/// Which row of the tables of relative positions each distance between a query and a key has, and where the queries stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distances {
    /// Of the distances `1 - L ..= L - 1`, less the first row in use.
    rows: Arc<[u32]>,
    first: usize,
    /// `[Tq]`: the place of each query in its sequence; `None` where query i of a sequence is its token i.
    places: Option<Arc<[usize]>>,
}

impl Distances {
    /// For sequences of up to `longest` tokens, all of which ask: `row` of a distance, the query's place minus the key's.
    #[must_use]
    pub fn new(longest: usize, row: impl Fn(i64) -> usize) -> Self {
        let reach = longest.max(1) as i64 - 1;
        let rows: Vec<usize> = (-reach..=reach).map(row).collect();
        let first = rows.iter().copied().min().unwrap_or(0);
        Self {
            rows: rows.iter().map(|row| (row - first) as u32).collect(),
            first,
            places: None,
        }
    }

    /// The same where the queries stand at these places of their sequences, `[Tq]`.
    #[must_use]
    pub fn with_places(self, places: impl Into<Arc<[usize]>>) -> Self {
        Self {
            places: Some(places.into()),
            ..self
        }
    }

    /// The rows of the whole tables that are in use: the tables of a call hold these alone.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        let most = self.rows.iter().copied().max().unwrap_or(0);
        self.first..self.first + most as usize + 1
    }

    /// The row of a distance, in the tables of a call.
    pub(crate) fn row(&self, distance: isize) -> u32 {
        let reach = (self.rows.len() / 2) as isize;
        self.rows[(distance + reach) as usize]
    }

    /// The place of query `i` of a sequence, which is query `token` of all.
    pub(crate) fn place(&self, token: usize, i: usize) -> usize {
        self.places.as_ref().map_or(i, |places| places[token])
    }

    /// Whether the places fit these sequences: each is a token of its sequence, none of which is longer than is known here.
    pub(crate) fn fit(&self, (queries, keys): (&Sequences, &Sequences)) -> bool {
        let counted = self
            .places
            .as_ref()
            .is_none_or(|places| places.len() == queries.tokens());
        let mut pairs = queries.ranges().zip(keys.ranges());
        counted
            && 2 * keys.longest() <= self.rows.len() + 1
            && pairs.all(|(queries, keys)| {
                let mut places = queries.enumerate();
                places.all(|(i, token)| self.place(token, i) < keys.len())
            })
    }

    /// The row of each query and key of the padded batch `[1 or B, 1, Lq, Lk]`; of padding, that of some distance.
    fn padded<B: TuneBackend>(
        &self,
        (queries, keys): (&Sequences, &Sequences),
        device: &B::Device,
    ) -> Tensor<B, 4, Int> {
        let (longest, across) = (queries.longest(), keys.longest());
        let row = |place: usize, key: usize| self.row(place as isize - key as isize) as i32;
        let mut rows = Vec::new();
        let count = match self.places {
            // The same of every sequence.
            None => {
                rows.extend((0..longest).flat_map(|i| (0..across).map(move |key| row(i, key))));
                1
            }
            Some(_) => {
                for range in queries.ranges() {
                    for i in 0..longest {
                        let token = range.start + i;
                        let place = if token < range.end {
                            self.place(token, i)
                        } else {
                            0
                        };
                        rows.extend((0..across).map(|key| row(place, key)));
                    }
                }
                queries.count()
            }
        };
        Tensor::from_data(TensorData::new(rows, [count, 1, longest, across]), device)
    }
}

/// What distances add to scores: tables with a row for each of [`Distances::span`].
#[derive(Debug, Clone, Copy)]
pub enum Relative<T> {
    /// `[R, H]`: added to the scaled scores.
    Bias(T),
    /// `[R, D]` each: keys that queries meet and queries that keys meet. Both products are added to that of query and key
    /// before it is scaled.
    Vectors {
        /// What a query is multiplied with.
        keys: T,
        /// What a key is multiplied with.
        queries: T,
    },
}

impl<T> Relative<T> {
    /// The same with other tables.
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> Relative<U> {
        match self {
            Self::Bias(bias) => Relative::Bias(f(bias)),
            Self::Vectors { keys, queries } => Relative::Vectors {
                keys: f(keys),
                queries: f(queries),
            },
        }
    }

    /// The same, borrowed.
    pub fn as_ref(&self) -> Relative<&T> {
        match self {
            Self::Bias(bias) => Relative::Bias(bias),
            Self::Vectors { keys, queries } => Relative::Vectors { keys, queries },
        }
    }
}

impl<T> Relative<T> {
    /// The same, borrowed to be changed.
    #[cfg(feature = "cpu")]
    pub(crate) fn as_mut(&mut self) -> Relative<&mut T> {
        match self {
            Self::Bias(bias) => Relative::Bias(bias),
            Self::Vectors { keys, queries } => Relative::Vectors { keys, queries },
        }
    }
}

/// The tables, one after the other.
impl<T> IntoIterator for Relative<T> {
    type Item = T;
    type IntoIter = std::iter::Flatten<std::array::IntoIter<Option<T>, 2>>;

    fn into_iter(self) -> Self::IntoIter {
        let tables = match self {
            Self::Bias(bias) => [Some(bias), None],
            Self::Vectors { keys, queries } => [Some(keys), Some(queries)],
        };
        tables.into_iter().flatten()
    }
}

/// Gradients of q, k and v, and of the tables where somebody asked for them.
#[derive(Debug)]
pub struct RelativeAttentionGrads<B: TuneBackend> {
    /// of q, k and v
    pub attention: AttentionGrads<B>,
    /// of the tables
    pub relative: Option<Relative<FloatTensor<B>>>,
}

/// A table's rows by head: `[R, D]` -> `[1, H, R, K]`.
fn by_head<B: TuneBackend>(table: Tensor<B, 2>, heads: usize) -> Tensor<B, 4> {
    let [rows, width] = table.dims();
    table
        .reshape([1, rows, heads, width / heads])
        .swap_dims(1, 2)
}

/// The scaled scores `[B, H, Lq, Lk]` of padded q and k with what distances add, by the `index` of [`Distances::padded`].
fn scores<B: TuneBackend>(
    padded: &Padded<B>,
    [q, k]: [&Tensor<B, 4>; 2],
    relative: &Relative<Tensor<B, 4>>,
    index: &Tensor<B, 4, Int>,
) -> Tensor<B, 4> {
    let products = q.clone().matmul(k.clone().transpose());
    match relative {
        // [1, H, R, 1], by rows of one number.
        Relative::Bias(bias) => {
            let [count, heads, queries, keys] = products.dims();
            let rows = index.dims()[0] * queries * keys;
            let bias = bias.clone().reshape([heads as i32, -1]);
            let bias = bias.select(1, index.clone().reshape([rows]));
            let bias = bias.reshape([heads, rows / (queries * keys), queries, keys]);
            let bias = bias.swap_dims(0, 1);
            products * padded.scale + bias.expand([count, heads, queries, keys])
        }
        Relative::Vectors { keys, queries } => {
            let index = index.clone().expand(products.dims());
            let met = q.clone().matmul(keys.clone().transpose());
            let meets = k.clone().matmul(queries.clone().transpose());
            let met = met.gather(3, index.clone());
            let meets = meets.gather(3, index.swap_dims(2, 3)).swap_dims(2, 3);
            (products + met + meets) * padded.scale
        }
    }
}

/// The default body of [`TuneBackend::tune_relative_attention`].
pub fn forward<B: TuneBackend>(
    [q, k, v]: [FloatTensor<B>; 3],
    relative: Relative<FloatTensor<B>>,
    distances: &Distances,
    sequences: (&Sequences, &Sequences),
    config: AttentionConfig,
) -> FloatTensor<B> {
    if sequences.0.tokens() == 0 || sequences.1.tokens() == 0 {
        return nothing::<B>(&q);
    }
    let (q, k, v): (Tensor<B, 2>, Tensor<B, 2>, Tensor<B, 2>) = (tensor(q), tensor(k), tensor(v));
    let padded = Padded::<B>::new(sequences, config, q.dims()[1], &q.device());
    let index = distances.padded::<B>(sequences, &q.device());
    let relative = relative.map(|table| by_head(tensor::<B, 2>(table), config.heads));
    let q = padded.queries.pad(q, config.heads);
    let [k, v] = [k, v].map(|x| padded.keys.pad(x, config.heads));
    let mut p = padded.softmax(scores(&padded, [&q, &k], &relative, &index));
    if let Some(keep) = &padded.keep {
        p = p * keep.clone();
    }
    padded.queries.unpad(p.matmul(v) * padded.real.clone())
}

/// The default body of [`TuneBackend::tune_relative_attention_backward`].
pub fn backward<B: TuneBackend>(
    [q, k, v, grad]: [FloatTensor<B>; 4],
    relative: Relative<FloatTensor<B>>,
    distances: &Distances,
    sequences: (&Sequences, &Sequences),
    config: AttentionConfig,
    needs: bool,
) -> RelativeAttentionGrads<B> {
    if sequences.0.tokens() == 0 || sequences.1.tokens() == 0 {
        let [q, k, v] = [q, k, v].map(|x| nothing::<B>(&x));
        let relative = needs.then(|| relative.map(|table| nothing::<B>(&table)));
        let attention = AttentionGrads { q, k, v };
        return RelativeAttentionGrads {
            attention,
            relative,
        };
    }
    let (q, k, v): (Tensor<B, 2>, Tensor<B, 2>, Tensor<B, 2>) = (tensor(q), tensor(k), tensor(v));
    let heads = config.heads;
    let padded = Padded::<B>::new(sequences, config, q.dims()[1], &q.device());
    let index = distances.padded::<B>(sequences, &q.device());
    let relative = relative.map(|table| by_head(tensor::<B, 2>(table), heads));
    let q = padded.queries.pad(q, heads);
    let [k, v] = [k, v].map(|x| padded.keys.pad(x, heads));
    // Padding rows repeat token 0, so their gradient must be cleared, not only unread.
    let grad = padded.queries.pad(tensor(grad), heads) * padded.real.clone();

    let p = padded.softmax(scores(&padded, [&q, &k], &relative, &index));
    let (mut dropped, mut dp) = (p.clone(), grad.clone().matmul(v.transpose()));
    if let Some(keep) = &padded.keep {
        (dropped, dp) = (dropped * keep.clone(), dp * keep.clone());
    }
    let dv = dropped.transpose().matmul(grad);
    let ds = p.clone() * (dp.clone() - (dp * p).sum_dim(3));
    let scaled = ds.clone() * padded.scale;
    let mut dq = scaled.clone().matmul(k.clone());
    let mut dk = scaled.clone().transpose().matmul(q.clone());
    let [count, _, queries, keys] = ds.dims();
    let tables = match relative {
        Relative::Bias(bias) => needs.then(|| {
            let index = index.expand([count, 1, queries, keys]);
            let index = index.reshape([count * queries * keys]);
            let by_distance = ds.permute([0, 2, 3, 1]).reshape([-1, heads as i32]);
            let zeros = Tensor::zeros([bias.dims()[2], heads], &bias.device());
            let sums = zeros.select_assign(0, index, by_distance, IndexingUpdateOp::Add);
            Relative::Bias(primitive(sums))
        }),
        Relative::Vectors {
            keys: rk,
            queries: rq,
        } => {
            let index = index.expand(scaled.dims());
            let spread = |index: Tensor<B, 4, Int>, slopes: Tensor<B, 4>| {
                let [count, heads, rows, _] = slopes.dims();
                let zeros = Tensor::zeros([count, heads, rows, rk.dims()[2]], &rk.device());
                zeros.scatter(3, index, slopes, IndexingUpdateOp::Add)
            };
            let met = spread(index.clone(), scaled.clone());
            let meets = spread(index.swap_dims(2, 3), scaled.swap_dims(2, 3));
            dq = dq + met.clone().matmul(rk.clone());
            dk = dk + meets.clone().matmul(rq);
            // [B, H, R, K] -> [R, D].
            let sums = |slopes: Tensor<B, 4>, x: Tensor<B, 4>| {
                let sums = slopes.transpose().matmul(x).sum_dim(0).swap_dims(1, 2);
                let [_, rows, heads, width] = sums.dims();
                primitive(sums.reshape([rows, heads * width]))
            };
            needs.then(|| Relative::Vectors {
                keys: sums(met, q),
                queries: sums(meets, k),
            })
        }
    };
    RelativeAttentionGrads {
        attention: AttentionGrads {
            q: padded.queries.unpad(dq),
            k: padded.keys.unpad(dk),
            v: padded.keys.unpad(dv),
        },
        relative: tables,
    }
}
