//! `Tensor`: a shape, a dtype, and a buffer on one device. Thin on purpose.
//!
//! A tensor owns its buffer; there are no strides, and no views except the parts of a training run's parameters
//! (`Tensor::part`). What an operation writes is given to it as `&mut Tensor`, so the borrow checker is the aliasing rule. The number of rows
//! may shrink below what was allocated ([`Tensor::set_rows`]): a training step allocates once for the largest batch and every batch uses
//! what it needs.

use crate::device::{Buffer, Device, Held, View};
use crate::dtype::product;
use crate::error::{Error, Result};
use crate::observe::{self, Access, ObservedOperand, SpanKind, TensorId};
use half::{bf16, f16};
use std::fmt;

pub use crate::dtype::{DType, Element, Shape};

/// A shape, a dtype, and a buffer on one device.
pub struct Tensor {
    id: TensorId,
    shape: Shape,
    dtype: DType,
    /// Elements allocated; `shape.len()` of them are in use.
    capacity: usize,
    device: Device,
    pub(crate) buffer: Buffer,
    _held: Held,
}

/// No tensor may have more elements than a kernel's 32-bit index can reach.
pub const MAX_ELEMENTS: usize = (1 << 31) - 1;

impl Tensor {
    /// A tensor of zeros.
    ///
    /// ```
    /// use trimodal::{DType, Device, Tensor};
    /// let x = Tensor::zeros(&Device::Cpu, [2, 3], DType::F32)?;
    /// assert_eq!(x.read::<f32>()?, [0.0; 6]);
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond [`MAX_ELEMENTS`] or the device's binding size, [`Error::OutOfMemory`] where the device
    /// refuses, [`Error::Device`] for f64 on anything but the CPU.
    pub fn zeros(device: &Device, shape: impl Into<Shape>, dtype: DType) -> Result<Self> {
        Self::with_redzone(device, shape, dtype, 0)
    }

    /// As [`Tensor::zeros`], with `redzone` more elements after the last one, *inside* what kernels see as the buffer:
    /// a test fills them and checks whether a kernel wrote there.
    ///
    /// ```
    /// use trimodal::{DType, Device, Tensor};
    /// let x = Tensor::with_redzone(&Device::Cpu, [2, 3], DType::F32, 4)?;
    /// assert_eq!((x.len(), x.capacity()), (6, 10));
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    pub fn with_redzone(device: &Device, shape: impl Into<Shape>, dtype: DType, redzone: usize) -> Result<Self> {
        let shape = shape.into();
        let len = shape.checked_len().and_then(|len| len.checked_add(redzone)).filter(|&len| len <= MAX_ELEMENTS);
        let Some(capacity) = len else {
            let size = shape.dims().iter().map(|&s| s as u128).fold(1u128, u128::saturating_mul);
            return Err(Error::TooLarge { what: format!("tensor {shape}: elements"), size, limit: MAX_ELEMENTS as u128 });
        };
        let (buffer, held) = device.allocate(capacity, dtype)?;
        Ok(Tensor { id: TensorId::next(), shape, dtype, capacity, device: device.clone(), buffer, _held: held })
    }

    /// A tensor with these elements.
    ///
    /// ```
    /// use trimodal::{DType, Device, Tensor};
    /// let x = Tensor::from_slice(&Device::Cpu, [2, 2], &[1f32, 2.0, 3.0, 4.0])?;
    /// assert_eq!((x.shape().dims(), x.dtype()), (&[2, 2][..], DType::F32));
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    pub fn from_slice<T: Element>(device: &Device, shape: impl Into<Shape>, data: &[T]) -> Result<Self> {
        let mut tensor = Self::zeros(device, shape, T::DTYPE)?;
        tensor.write(data)?;
        Ok(tensor)
    }

    /// A tensor of `dtype` (f64, f32, bf16 or f16) with these values, rounded to it.
    ///
    /// ```
    /// use trimodal::{DType, Device, Tensor};
    /// let x = Tensor::from_f64(&Device::Cpu, [2], DType::Bf16, &[1.0, 1.001])?;
    /// assert_eq!(x.read_f64()?, [1.0, 1.0]); // bf16 has three digits
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    pub fn from_f64(device: &Device, shape: impl Into<Shape>, dtype: DType, data: &[f64]) -> Result<Self> {
        let mut tensor = Self::zeros(device, shape, dtype)?;
        tensor.write_f64(data)?;
        Ok(tensor)
    }

    /// Which tensor it is: no other one of this process has had this id or will have it.
    ///
    /// ```
    /// use trimodal::{DType, Device, Tensor};
    /// let [a, b] = [(); 2].map(|_| Tensor::zeros(&Device::Cpu, [1], DType::F32).unwrap());
    /// assert_ne!(a.id(), b.id());
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    pub fn id(&self) -> TensorId {
        self.id
    }

    /// The tensor as a launch takes it.
    pub(crate) fn view(&self) -> View<'_> {
        View { device: &self.device, buffer: &self.buffer, shape: self.shape, dtype: self.dtype, id: self.id }
    }

    /// All of the tensor, as whoever observes this thread is told of it.
    pub(crate) fn operand(&self, name: &'static str, access: Access) -> ObservedOperand {
        ObservedOperand { name, id: self.id, shape: self.shape, dtype: self.dtype, elements: self.len(), access, values: None }
    }

    /// The shape.
    ///
    /// ```
    /// use trimodal::{DType, Device, Tensor};
    /// let x = Tensor::zeros(&Device::Cpu, [2, 3], DType::F32)?;
    /// assert_eq!(x.shape(), [2, 3]);
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Size number `i` of the shape; 1 beyond its rank.
    ///
    /// ```
    /// use trimodal::{DType, Device, Tensor};
    /// let x = Tensor::zeros(&Device::Cpu, [2, 3], DType::F32)?;
    /// assert_eq!([x.dim(0), x.dim(1), x.dim(2)], [2, 3, 1]);
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    pub fn dim(&self, i: usize) -> usize {
        self.shape.sizes[i]
    }

    /// Elements in use.
    ///
    /// ```
    /// use trimodal::{DType, Device, Tensor};
    /// let x = Tensor::zeros(&Device::Cpu, [2, 3], DType::F32)?;
    /// assert_eq!(x.len(), 6);
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    pub fn len(&self) -> usize {
        self.shape.len()
    }

    /// Whether there is no element in use.
    ///
    /// ```
    /// use trimodal::{DType, Device, Tensor};
    /// let x = Tensor::zeros(&Device::Cpu, [0, 3], DType::F32)?;
    /// assert!(x.is_empty());
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first size.
    ///
    /// ```
    /// use trimodal::{DType, Device, Tensor};
    /// let x = Tensor::zeros(&Device::Cpu, [2, 3], DType::F32)?;
    /// assert_eq!(x.rows(), 2);
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    pub fn rows(&self) -> usize {
        self.dim(0)
    }

    /// Elements of one row: the product of all sizes but the first; `usize::MAX` where it does not fit (there is then no row).
    ///
    /// ```
    /// use trimodal::{DType, Device, Tensor};
    /// let x = Tensor::zeros(&Device::Cpu, [2, 3, 4], DType::F32)?;
    /// assert_eq!(x.row_len(), 12);
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    pub fn row_len(&self) -> usize {
        product(self.shape.dims().get(1..).unwrap_or(&[]))
    }

    /// The dtype.
    ///
    /// ```
    /// use trimodal::{DType, Device, Tensor};
    /// let x = Tensor::zeros(&Device::Cpu, [2, 3], DType::F32)?;
    /// assert_eq!(x.dtype(), DType::F32);
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The device it lives on.
    ///
    /// ```
    /// use trimodal::{DType, Device, Tensor};
    /// let x = Tensor::zeros(&Device::Cpu, [2, 3], DType::F32)?;
    /// assert!(matches!(x.device(), Device::Cpu));
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Elements allocated.
    ///
    /// ```
    /// use trimodal::{DType, Device, Tensor};
    /// let mut x = Tensor::zeros(&Device::Cpu, [2, 3], DType::F32)?;
    /// x.set_rows(1)?;
    /// assert_eq!((x.len(), x.capacity()), (3, 6));
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes allocated.
    ///
    /// ```
    /// use trimodal::{DType, Device, Tensor};
    /// let x = Tensor::zeros(&Device::Cpu, [2, 3], DType::Bf16)?;
    /// assert_eq!(x.bytes(), 12);
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    pub fn bytes(&self) -> u64 {
        self.capacity as u64 * self.dtype.size() as u64
    }

    /// Uses only the first `rows` rows of what was allocated, or more again, up to the capacity.
    ///
    /// ```
    /// use trimodal::{DType, Device, Tensor};
    /// let mut x = Tensor::zeros(&Device::Cpu, [2, 3], DType::F32)?;
    /// x.set_rows(1)?;
    /// assert_eq!(x.shape(), [1, 3]);
    /// assert!(x.set_rows(3).is_err());
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond the capacity, [`Error::Mismatch`] for a scalar.
    pub fn set_rows(&mut self, rows: usize) -> Result<()> {
        let need = rows.saturating_mul(self.row_len());
        if self.shape.rank == 0 {
            return Err(Error::mismatch("set_rows", "tensor", "at least one size", self.shape));
        }
        if need > self.capacity {
            return Err(Error::TooLarge { what: format!("{rows} rows of a tensor {}", self.shape), size: need as u128, limit: self.capacity as u128 });
        }
        self.shape.sizes[0] = rows;
        Ok(())
    }

    /// A part of this tensor's memory, from element `start` on, as a tensor of its own: on devices where [`Device::has_parts`]. The
    /// memory lives as long as either. Whoever makes parts must make sure that no launch gets the same elements twice.
    pub(crate) fn part(&self, start: usize, shape: impl Into<Shape>) -> Result<Tensor> {
        let shape = shape.into();
        let end = shape.checked_len().and_then(|len| start.checked_add(len));
        if end.is_none_or(|end| end > self.capacity) {
            let size = (start as u128).saturating_add(shape.len() as u128);
            return Err(Error::TooLarge {
                what: format!("a part {shape} from element {start} of a tensor {}", self.shape),
                size,
                limit: self.capacity as u128,
            });
        }
        match &self.buffer {
            #[cfg(feature = "cuda")]
            Buffer::Cuda(buffer) => {
                let buffer = Buffer::Cuda(buffer.part(start, shape.len(), self.dtype));
                Ok(Tensor {
                    id: TensorId::next(),
                    shape,
                    dtype: self.dtype,
                    capacity: shape.len(),
                    device: self.device.clone(),
                    buffer,
                    _held: self._held.clone(),
                })
            }
            _ => Err(Error::Device { device: self.device.to_string(), what: "a tensor here has no parts".into() }),
        }
    }

    /// Says that what it holds must not be read before it is written. The emulator reports a kernel that does; elsewhere
    /// nothing happens.
    ///
    /// ```
    /// use trimodal::{DType, Device, Tensor};
    /// let x = Tensor::zeros(&Device::Cpu, [2, 3], DType::F32)?;
    /// x.forget();
    /// assert_eq!(x.read::<f32>()?, [0.0; 6]); // on the CPU nothing happens
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    pub fn forget(&self) {
        #[cfg(feature = "emulator")]
        if let Buffer::Emulator(buffer) = &self.buffer {
            buffer.forget();
        }
    }

    /// Gives what was allocated another shape; the elements stay in their order.
    ///
    /// ```
    /// use trimodal::{Device, Tensor};
    /// let mut x = Tensor::from_slice(&Device::Cpu, [2, 2], &[1, 2, 3, 4])?;
    /// x.reshape([4])?;
    /// assert_eq!((x.shape().dims(), x.read::<i32>()?), (&[4][..], vec![1, 2, 3, 4]));
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond the capacity.
    pub fn reshape(&mut self, shape: impl Into<Shape>) -> Result<()> {
        let shape = shape.into();
        match shape.checked_len() {
            Some(len) if len <= self.capacity => self.shape = shape,
            len => {
                let size = len.map_or(u128::MAX, |l| l as u128);
                return Err(Error::TooLarge { what: format!("a tensor {} as {shape}", self.shape), size, limit: self.capacity as u128 });
            }
        }
        Ok(())
    }

    /// Copies `data` into the tensor.
    ///
    /// ```
    /// use trimodal::{DType, Device, Tensor};
    /// let mut x = Tensor::zeros(&Device::Cpu, [2], DType::F32)?;
    /// x.write(&[1f32, 2.0])?;
    /// assert_eq!(x.read::<f32>()?, [1.0, 2.0]);
    /// assert_eq!(x.write(&[1f32]).unwrap_err().to_string(), "write: data: expected 2 elements for [2], found 1");
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Mismatch`] for another dtype or length.
    pub fn write<T: Element>(&mut self, data: &[T]) -> Result<()> {
        if data.len() != self.len() {
            return Err(Error::mismatch("write", "data", format!("{} elements for {}", self.len(), self.shape), data.len()));
        }
        self.write_padded(data)
    }

    /// As [`Tensor::write`], but where the device can (CUDA) during the work that it is doing, which must not use this tensor;
    /// whatever is launched afterwards waits for it.
    ///
    /// ```
    /// use trimodal::{DType, Device, Tensor};
    /// let mut x = Tensor::zeros(&Device::Cpu, [2], DType::I32)?;
    /// x.write_ahead(&[1, 2])?;
    /// assert_eq!(x.read::<i32>()?, [1, 2]);
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    pub fn write_ahead<T: Element>(&mut self, data: &[T]) -> Result<()> {
        match &self.buffer {
            #[cfg(feature = "cuda")]
            Buffer::Cuda(buffer) if T::DTYPE == self.dtype && data.len() == self.len() && !observe::on() => buffer.upload_ahead(bytemuck::cast_slice(data)),
            _ => self.write(data),
        }
    }

    /// As [`Tensor::write`], but `data` may continue into the redzone.
    pub(crate) fn write_padded<T: Element>(&mut self, data: &[T]) -> Result<()> {
        self.expect_dtype("write", T::DTYPE)?;
        assert!(data.len() <= self.capacity, "checked by the callers");
        self.upload(bytemuck::cast_slice(data))
    }

    /// Copies the elements' bytes, little-endian as in a safetensors file, into the tensor.
    ///
    /// ```
    /// use trimodal::{DType, Device, Tensor};
    /// let mut x = Tensor::zeros(&Device::Cpu, [1], DType::F32)?;
    /// x.write_bytes(&1.5f32.to_le_bytes())?;
    /// assert_eq!(x.read::<f32>()?, [1.5]);
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Mismatch`] for another length.
    pub fn write_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let expected = self.len() * self.dtype.size();
        if bytes.len() != expected {
            return Err(Error::mismatch("write", "data", format!("{expected} bytes"), bytes.len()));
        }
        self.upload(bytes)
    }

    fn upload(&mut self, bytes: &[u8]) -> Result<()> {
        let device = self.device.clone();
        let to = self.operand("to", Access::Write);
        observe::memory(SpanKind::Upload, || vec![to], || device.upload(&mut self.buffer, bytes))
    }

    /// Copies the elements to the host.
    ///
    /// ```
    /// use trimodal::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::Cpu, [2], &[1f32, 2.0])?;
    /// assert_eq!(x.read::<f32>()?, [1.0, 2.0]);
    /// assert!(x.read::<i32>().is_err());
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    pub fn read<T: Element>(&self) -> Result<Vec<T>> {
        self.expect_dtype("read", T::DTYPE)?;
        self.read_elements(self.len())
    }

    /// As [`Tensor::read`], with the redzone.
    pub(crate) fn read_padded<T: Element>(&self) -> Result<Vec<T>> {
        self.expect_dtype("read", T::DTYPE)?;
        self.read_elements(self.capacity)
    }

    fn read_elements<T: Element>(&self, count: usize) -> Result<Vec<T>> {
        let mut data = vec![T::zeroed(); count];
        let from = self.operand("from", Access::Read);
        observe::memory(SpanKind::Download, || vec![from], || self.device.download(&self.buffer, bytemuck::cast_slice_mut(&mut data)))?;
        Ok(data)
    }

    /// The elements as f64, whatever the dtype.
    ///
    /// ```
    /// use trimodal::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::Cpu, [2], &[7u8, 255])?;
    /// assert_eq!(x.read_f64()?, [7.0, 255.0]);
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    pub fn read_f64(&self) -> Result<Vec<f64>> {
        Ok(match self.dtype {
            DType::F64 => self.read::<f64>()?,
            DType::F32 => self.read::<f32>()?.into_iter().map(f64::from).collect(),
            DType::Bf16 => self.read::<bf16>()?.into_iter().map(f64::from).collect(),
            DType::F16 => self.read::<f16>()?.into_iter().map(f64::from).collect(),
            DType::I32 => self.read::<i32>()?.into_iter().map(f64::from).collect(),
            DType::U8 => self.read::<u8>()?.into_iter().map(f64::from).collect(),
        })
    }

    /// The first element that is NaN or infinite. Integers never are.
    ///
    /// ```
    /// use trimodal::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::Cpu, [3], &[1f32, f32::NAN, 2.0])?;
    /// assert_eq!(x.first_not_finite()?, Some(1));
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    pub fn first_not_finite(&self) -> Result<Option<usize>> {
        Ok(match self.dtype {
            DType::F64 => self.read::<f64>()?.iter().position(|x| !x.is_finite()),
            DType::F32 => self.read::<f32>()?.iter().position(|x| !x.is_finite()),
            DType::Bf16 => self.read::<bf16>()?.iter().position(|x| !x.is_finite()),
            DType::F16 => self.read::<f16>()?.iter().position(|x| !x.is_finite()),
            DType::I32 | DType::U8 => None,
        })
    }

    /// Writes f64 values, rounded to the tensor's dtype (integers must be exact).
    ///
    /// ```
    /// use trimodal::{DType, Device, Tensor};
    /// let mut x = Tensor::zeros(&Device::Cpu, [2], DType::F32)?;
    /// x.write_f64(&[0.5, -2.0])?;
    /// assert_eq!(x.read::<f32>()?, [0.5, -2.0]);
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    pub fn write_f64(&mut self, data: &[f64]) -> Result<()> {
        fn each<T: Element>(tensor: &mut Tensor, data: &[f64], convert: impl Fn(f64) -> T) -> Result<()> {
            let data: Vec<T> = data.iter().map(|&x| convert(x)).collect();
            tensor.write(&data)
        }
        match self.dtype {
            DType::F64 => self.write(data),
            DType::F32 => each(self, data, |x| x as f32),
            DType::Bf16 => each(self, data, bf16::from_f64),
            DType::F16 => each(self, data, f16::from_f64),
            DType::I32 => each(self, data, |x| x as i32),
            DType::U8 => each(self, data, |x| x as u8),
        }
    }

    /// Sets every allocated element to zero.
    ///
    /// ```
    /// use trimodal::{Device, Tensor};
    /// let mut x = Tensor::from_slice(&Device::Cpu, [2], &[1, 2])?;
    /// x.fill_zero()?;
    /// assert_eq!(x.read::<i32>()?, [0, 0]);
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    pub fn fill_zero(&mut self) -> Result<()> {
        let device = self.device.clone();
        let to = self.operand("to", Access::Write);
        observe::memory(SpanKind::Clear, || vec![to], || device.clear(&mut self.buffer))
    }

    /// Copies `from` (same dtype, length and device) into this tensor.
    ///
    /// ```
    /// use trimodal::{DType, Device, Tensor};
    /// let from = Tensor::from_slice(&Device::Cpu, [2, 1], &[1, 2])?;
    /// let mut x = Tensor::zeros(&Device::Cpu, [2], DType::I32)?;
    /// x.copy_from(&from)?;
    /// assert_eq!(x.read::<i32>()?, [1, 2]);
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    pub fn copy_from(&mut self, from: &Tensor) -> Result<()> {
        self.expect_dtype("copy", from.dtype)?;
        if from.len() != self.len() {
            return Err(Error::mismatch("copy", "from", self.shape, from.shape));
        }
        let bytes = self.len() * self.dtype.size();
        let device = self.device.clone();
        let operands = [from.operand("from", Access::Read), self.operand("to", Access::Write)];
        observe::memory(SpanKind::Copy, || operands.into(), || device.copy(&from.buffer, &mut self.buffer, bytes))
    }

    /// The elements in use, for the CPU device's kernels.
    ///
    /// ```
    /// use trimodal::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::Cpu, [2], &[1, 2])?;
    /// assert_eq!(x.cpu::<i32>(), [1, 2]);
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    ///
    /// # Panics
    /// On another device or dtype: the operations check both before they come here.
    pub fn cpu<T: Element>(&self) -> &[T] {
        match &self.buffer {
            Buffer::Cpu(buffer) => &buffer.as_slice::<T>()[..self.shape.len()],
            _ => panic!("the CPU path was taken for a tensor on {}", self.device),
        }
    }

    /// As [`Tensor::cpu`], to write.
    ///
    /// ```
    /// use trimodal::{Device, Tensor};
    /// let mut x = Tensor::from_slice(&Device::Cpu, [2], &[1, 2])?;
    /// x.cpu_mut::<i32>()[1] = 5;
    /// assert_eq!(x.read::<i32>()?, [1, 5]);
    /// # Ok::<(), trimodal::Error>(())
    /// ```
    ///
    /// # Panics
    /// As [`Tensor::cpu`].
    pub fn cpu_mut<T: Element>(&mut self) -> &mut [T] {
        let len = self.shape.len();
        match &mut self.buffer {
            Buffer::Cpu(buffer) => &mut buffer.as_mut_slice::<T>()[..len],
            _ => panic!("the CPU path was taken for a tensor on {}", self.device),
        }
    }

    fn expect_dtype(&self, op: &'static str, found: DType) -> Result<()> {
        if found != self.dtype {
            return Err(Error::mismatch(op, "dtype", self.dtype, found));
        }
        Ok(())
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Tensor({} {} on {})", self.dtype, self.shape, self.device)
    }
}
