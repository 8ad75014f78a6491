//! Float tensors between a device and the host. A read that fails is an error: its values would be made up.

use burn::tensor::{
    DType, Tensor, TensorData, TensorMetadata,
    backend::{Backend, ExecutionError},
    ops::{FloatTensor, TransactionPrimitive},
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

/// Reads so far.
static READS: AtomicU64 = AtomicU64::new(0);

/// How often this process has read tensors back so far: a GPU stands still while it waits for them.
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

/// Copies a backend's tensors to the host, as f32, in one read: the device is waited for once.
///
/// # Errors
/// When the device does not give their values back.
pub fn all_to_host<B: Backend>(tensors: Vec<FloatTensor<B>>) -> Result<Vec<HostTensor>, ReadError> {
    // Backends look at the first.
    if tensors.is_empty() {
        return Ok(Vec::new());
    }
    READS.fetch_add(1, Ordering::Relaxed);
    let shape = |tensor: &FloatTensor<B>| tensor.shape().as_slice().to_vec();
    let shapes: Vec<Vec<usize>> = tensors.iter().map(shape).collect();
    let transaction = TransactionPrimitive::<B>::new(tensors, Vec::new(), Vec::new(), Vec::new());
    let mut read = match try_read_sync(B::tr_execute(transaction)) {
        Some(Ok(read)) => read.read_floats.into_iter().map(Ok).collect(),
        Some(Err(error)) => vec![Err(error)],
        None => Vec::new(),
    }
    .into_iter();
    let host = |shape| as_f32(read.next(), shape);
    shapes.into_iter().map(host).collect()
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

    #[cfg(feature = "cpu")]
    #[test]
    fn tensors_are_read_in_order() {
        type Cpu = burn::backend::Flex;
        let tensor = |shape: Vec<usize>, first: f32| {
            let count = shape.iter().product::<usize>();
            let values = (0..count).map(|i| first + i as f32).collect();
            HostTensor { shape, values }
        };
        let expected = [
            tensor(vec![2, 3], 1.0),
            tensor(vec![0], 0.0),
            tensor(vec![1], 9.0),
        ];
        let device = Default::default();
        let put = |host: &HostTensor| from_host::<Cpu>(host.clone(), &device);
        let read = all_to_host::<Cpu>(expected.iter().map(put).collect()).unwrap();
        for (read, expected) in read.iter().zip(&expected) {
            assert_eq!(
                (&read.shape, &read.values),
                (&expected.shape, &expected.values)
            );
        }
        assert_eq!(read.len(), expected.len());
        assert_eq!(all_to_host::<Cpu>(Vec::new()).unwrap().len(), 0);
    }
}
