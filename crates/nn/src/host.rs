//! Float tensors between a device and the host. A read that fails is an error: its values would be made up.

use burn::tensor::{
    DType, Tensor, TensorData, TensorMetadata,
    backend::{Backend, ExecutionError},
    ops::FloatTensor,
    try_read_sync,
};
use rekindle_base::HostTensor;
use std::sync::atomic::{AtomicU64, Ordering};

/// A tensor could not be read back from its device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a tensor of shape {shape:?} could not be read from the device: {reason}\nhint: the device was lost or ran out of memory; lower the batch size, or use another --device"
)]
pub struct ReadError {
    /// The tensor's dimensions.
    pub shape: Vec<usize>,
    /// What the backend says.
    pub reason: String,
}

/// Tensors that were read.
static READS: AtomicU64 = AtomicU64::new(0);

/// How many tensors this process has read back so far: a GPU stands still while it waits for one.
#[must_use]
pub fn reads() -> u64 {
    READS.load(Ordering::Relaxed)
}

/// Copies a backend's tensor to the host, as f32.
///
/// # Errors
/// When the device does not give its values back.
pub fn to_host<B: Backend>(tensor: FloatTensor<B>) -> Result<HostTensor, ReadError> {
    READS.fetch_add(1, Ordering::Relaxed);
    let shape = tensor.shape().as_slice().to_vec();
    as_f32(try_read_sync(B::float_into_data(tensor)), shape)
}

/// The values of a tensor of any rank, row-major, as f32.
///
/// # Errors
/// When the device does not give them back.
pub fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Result<Vec<f32>, ReadError> {
    Ok(to_host::<B>(tensor.into_primitive().tensor())?.values)
}

/// Moves a tensor's values to a device.
pub fn from_host<B: Backend>(tensor: HostTensor, device: &B::Device) -> FloatTensor<B> {
    B::float_from_data(TensorData::new(tensor.values, tensor.shape), device)
}

/// What a read gave: nothing if the backend has no answer without waiting.
fn as_f32(
    read: Option<Result<TensorData, ExecutionError>>,
    shape: Vec<usize>,
) -> Result<HostTensor, ReadError> {
    let failed = |reason: String| ReadError {
        shape: shape.clone(),
        reason,
    };
    let data = match read {
        Some(Ok(data)) => data,
        Some(Err(error)) => return Err(failed(error.to_string())),
        None => return Err(failed("it cannot be read without waiting".into())),
    };
    let values = data
        .convert_dtype(DType::F32)
        .into_vec::<f32>()
        .map_err(|error| failed(format!("{error:?}")))?;
    if values.len() != shape.iter().product::<usize>() {
        return Err(failed(format!("it gave {} values", values.len())));
    }
    Ok(HostTensor { shape, values })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Regression: a failed read became a tensor of NaN, or an empty one.
    #[test]
    fn a_failed_read_is_an_error() {
        let lost = ExecutionError::WithContext {
            reason: "device lost".into(),
        };
        let error = as_f32(Some(Err(lost)), vec![2, 3]).unwrap_err();
        assert_eq!(error.shape, [2, 3]);
        assert!(error.to_string().contains("device lost"), "{error}");
        assert!(as_f32(None, vec![1]).is_err());
        let short = TensorData::new(vec![1f32], [1]);
        assert!(as_f32(Some(Ok(short)), vec![2]).is_err());
        let whole = TensorData::new(vec![1f32, 2.0], [2]);
        assert_eq!(as_f32(Some(Ok(whole)), vec![2]).unwrap().values, [1.0, 2.0]);
    }
}
