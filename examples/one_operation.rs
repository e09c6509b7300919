//! One operation from the library, on every device of this machine: RMSNorm of two rows.
//!
//!     cargo run --release --example one_operation

use trimodal::ops::rms_norm;
use trimodal::{DType, Device, Result, Tensor};

fn main() -> Result<()> {
    let devices = [Device::open("cpu", None), Device::open("wgpu", None)];
    for device in devices.into_iter().flatten() {
        let x = Tensor::from_slice(&device, [2, 4], &[1f32, 2.0, 3.0, 4.0, -1.0, 0.0, 1.0, 0.0])?;
        let weight = Tensor::from_slice(&device, [4], &[1f32, 1.0, 1.0, 0.5])?;
        // An operation writes into tensors that it is given; `rstd` is what its backward pass will need.
        let mut y = Tensor::zeros(&device, [2, 4], DType::F32)?;
        let mut rstd = Tensor::zeros(&device, [2], DType::F32)?;
        rms_norm::forward(&x, None, &weight, 1e-6, &mut y, &mut rstd)?;
        println!("{device}: {:.4?}", y.read::<f32>()?);
    }
    Ok(())
}
