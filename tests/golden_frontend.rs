//! The picture and sound front ends against PyTorch in float64, on every device.
//!
//! The fixtures come from `scripts/golden_frontend.py`. Allowed, as relative L2: 1e-9 in f64; in f32 1e-5 forward and 1e-4
//! for gradients.

use safetensors::{Dtype, SafeTensors};
use trimodal::ops::{conv1d, log_mel, patch_embed};
use trimodal::{DType, Device, Tensor};

/// One fixture, opened.
struct Golden {
    name: &'static str,
    bytes: Vec<u8>,
}

impl Golden {
    fn open(name: &'static str) -> Self {
        let path = format!("{}/tests/golden/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        Golden { name, bytes }
    }

    /// A tensor's shape, dtype and values.
    fn get(&self, tensor: &str) -> (Vec<usize>, Dtype, Vec<f64>) {
        let file = SafeTensors::deserialize(&self.bytes).expect(self.name);
        let view = file.tensor(tensor).unwrap_or_else(|e| panic!("{}: {tensor}: {e}", self.name));
        fn each<const N: usize>(data: &[u8], convert: impl Fn([u8; N]) -> f64) -> Vec<f64> {
            data.chunks_exact(N).map(|c| convert(c.try_into().expect("N bytes"))).collect()
        }
        let values = match view.dtype() {
            Dtype::F64 => each(view.data(), f64::from_le_bytes),
            Dtype::F32 => each(view.data(), |b| f32::from_le_bytes(b) as f64),
            Dtype::I32 => each(view.data(), |b| i32::from_le_bytes(b) as f64),
            Dtype::I16 => each(view.data(), |b| i16::from_le_bytes(b) as f64 / 32_768.0),
            Dtype::U8 => each(view.data(), |b: [u8; 1]| b[0] as f64),
            other => panic!("{}: {tensor}: {other:?}", self.name),
        };
        (view.shape().to_vec(), view.dtype(), values)
    }

    /// A tensor on a device: integers as they are (16-bit sound as reals), reals in `real`.
    fn tensor(&self, name: &str, device: &Device, real: DType) -> Tensor {
        let (shape, dtype, values) = self.get(name);
        let dtype = match dtype {
            Dtype::U8 => DType::U8,
            Dtype::I32 => DType::I32,
            _ => real,
        };
        Tensor::from_f64(device, shape.as_slice(), dtype, &values).unwrap()
    }

    /// Zeros of a tensor's shape.
    fn zeros(&self, name: &str, device: &Device, real: DType) -> Tensor {
        Tensor::zeros(device, self.get(name).0.as_slice(), real).unwrap()
    }

    fn expect(&self, name: &str, found: &Tensor, allowed: f64) {
        let (shape, _, expected) = self.get(name);
        assert_eq!(found.shape().dims(), shape, "{}: {name}", self.name);
        let found_values = found.read_f64().unwrap();
        let difference: f64 = found_values.iter().zip(&expected).map(|(f, e)| (f - e) * (f - e)).sum();
        let norm: f64 = expected.iter().map(|e| e * e).sum();
        let error = (difference / norm).sqrt();
        let within = error <= allowed; // false for a NaN
        assert!(within, "{}: {name} on {} in {}: relative error {error:e}, allowed {allowed:e}", self.name, found.device(), found.dtype());
    }
}

/// Every device and precision, with what is allowed forward and for gradients.
fn everywhere(test: impl Fn(&Device, DType, f64, f64)) {
    for device in trimodal::check::test_devices() {
        if matches!(device, Device::Cpu) {
            test(&device, DType::F64, 1e-9, 1e-9);
        }
        test(&device, DType::F32, 1e-5, 1e-4);
    }
}

#[test]
fn log_mel_is_whispers() {
    for (name, mels) in [("log_mel_80", 80), ("log_mel_40", 40)] {
        let golden = Golden::open(name);
        everywhere(|device, real, forward, _| {
            let waveform = golden.tensor("waveform", device, real);
            let mut mel = golden.zeros("mel", device, real);
            let mut workspace = Tensor::zeros(device, [log_mel::workspace(waveform.rows(), waveform.dim(1))], real).unwrap();
            let tables = log_mel::Tables::new(device, real, 16_000, mels).unwrap();
            log_mel::forward(&waveform, &tables, &mut mel, &mut workspace).unwrap();
            golden.expect("mel", &mel, forward);
        });
    }
}

#[test]
fn the_convolution_stem_is_whispers() {
    let golden = Golden::open("conv_stem");
    everywhere(|device, real, forward, backward| {
        let get = |name: &str| golden.tensor(name, device, real);
        let layers = [(1, 1), (2, 2), (3, 2)];
        let mut inputs = vec![get("x")];
        let mut zs = Vec::new();
        for (layer, stride) in layers {
            let (weight, bias) = (get(&format!("conv{layer}.weight")), get(&format!("conv{layer}.bias")));
            let name = format!("y{layer}");
            let (mut z, mut y) = (golden.zeros(&name, device, real), golden.zeros(&name, device, real));
            conv1d::forward(inputs.last().unwrap(), &weight, &bias, stride, &mut z, &mut y).unwrap();
            golden.expect(&name, &y, forward);
            inputs.push(y);
            zs.push(z);
        }
        let mut dy = get("dy");
        for (layer, stride) in layers.into_iter().rev() {
            let (weight_name, bias_name) = (format!("conv{layer}.weight"), format!("conv{layer}.bias"));
            let (x, z, weight) = (&inputs[layer - 1], &zs[layer - 1], get(&weight_name));
            let zeros = |like: &Tensor| Tensor::zeros(device, like.shape(), real).unwrap();
            let (mut dz, mut dx, mut dweight) = (zeros(z), zeros(x), zeros(&weight));
            let mut dbias = golden.zeros(&bias_name, device, real);
            let needed = conv1d::workspace(x.rows(), x.dim(1), x.dim(2), weight.rows(), stride);
            let mut workspace = Tensor::zeros(device, [needed], real).unwrap();
            conv1d::backward(x, &weight, z, &dy, stride, &mut dz, Some(&mut dx), &mut dweight, &mut dbias, &mut workspace).unwrap();
            golden.expect(&format!("grad.{weight_name}"), &dweight, backward);
            golden.expect(&format!("grad.{bias_name}"), &dbias, backward);
            dy = dx;
        }
        golden.expect("grad.x", &dy, backward);
    });
}

#[test]
fn the_patch_embedding_is_fuyus_with_positions() {
    let golden = Golden::open("patch_embed");
    everywhere(|device, real, forward, backward| {
        let get = |name: &str| golden.tensor(name, device, real);
        let (weight, bias, position, row) = (get("weight"), get("bias"), get("position"), get("row"));
        // The same pixels as bytes and as reals.
        let reals = Tensor::from_f64(device, get("pixels").shape(), real, &golden.get("pixels").2).unwrap();
        for pixels in [get("pixels"), reals] {
            let mut y = golden.zeros("y", device, real);
            patch_embed::forward(&pixels, &weight, &bias, &position, &row, &mut y).unwrap();
            golden.expect("y", &y, forward);

            let zeros = |name| golden.zeros(name, device, real);
            let (mut dweight, mut dbias, mut dposition, mut dpixels) = (zeros("weight"), zeros("bias"), zeros("position"), zeros("pixels"));
            let needed = patch_embed::workspace(pixels.rows(), pixels.dim(1), pixels.dim(2), 8, weight.rows());
            let mut workspace = Tensor::zeros(device, [needed], real).unwrap();
            let dy = get("dy");
            patch_embed::backward(&pixels, &weight, &row, &dy, &mut dweight, &mut dbias, &mut dposition, Some(&mut dpixels), &mut workspace).unwrap();
            golden.expect("grad.weight", &dweight, backward);
            golden.expect("grad.bias", &dbias, backward);
            golden.expect("grad.position", &dposition, backward);
            golden.expect("grad.pixels", &dpixels, backward);
        }
    });
}
