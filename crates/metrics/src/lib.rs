//! Streaming metrics that equal scikit-learn's, with no tensors kept.
