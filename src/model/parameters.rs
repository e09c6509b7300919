//! What the model learns, with Hugging Face's names.
//!
//! The struct is generic over what stands for a tensor, so that the same listing allocates tensors, counts bytes, and holds
//! gradients and the optimiser's moments.

use super::config::{Config, Stem};
use crate::device::Device;
use crate::error::Result;
use crate::ops::local_histogram;
use crate::tensor::{DType, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// One decoder layer.
pub struct Layer<T = Tensor> {
    /// `[D]`
    pub input_layernorm: T,
    /// `[H·d, D]`
    pub q_proj: T,
    /// `[H_kv·d, D]`
    pub k_proj: T,
    /// `[H_kv·d, D]`
    pub v_proj: T,
    /// `[d]`
    pub q_norm: T,
    /// `[d]`
    pub k_norm: T,
    /// `[D, H·d]`
    pub o_proj: T,
    /// `[D]`
    pub post_attention_layernorm: T,
    /// `[F, D]`
    pub gate_proj: T,
    /// `[F, D]`
    pub up_proj: T,
    /// `[D, F]`
    pub down_proj: T,
}

/// The patch embedding, of width `C`: the model's `D`, or the stem's.
pub struct Vision<T = Tensor> {
    /// `[C, P·P·3]`
    pub weight: T,
    /// `[C]`
    pub bias: T,
    /// `[grid, 2, C]`: x first, then y.
    pub position: T,
    /// The convolutions between the patches and the rows, where there are any.
    pub stem: Option<StemParameters<T>>,
    /// `[D, cells · 36]`: what is counted in a picture, into the row of all of it.
    pub histograms: Option<T>,
}

/// A convolutional stem. See [`super::eye`].
pub struct StemParameters<T = Tensor> {
    /// The convolutions, in order.
    pub convolutions: Vec<StemConvolution<T>>,
    /// Where each place becomes a row.
    pub places: Option<PlaceParameters<T>>,
    /// `[C]`: of the same, for the row of the picture as a whole.
    pub whole_norm: T,
    /// `[D, g·g·C]`
    pub whole: T,
}

/// What makes a row of each place that a stem leaves of a picture.
pub struct PlaceParameters<T = Tensor> {
    /// `[C]`: of what the last convolution leaves.
    pub norm: T,
    /// `[D, C]`
    pub projection: T,
}

/// One convolution of a stem.
pub struct StemConvolution<T = Tensor> {
    /// `[in]`: of what goes in.
    pub norm: T,
    /// `[out, in, 3, 3]`
    pub weight: T,
    /// `[out]`
    pub bias: T,
}

/// One convolution of the sound stem.
pub struct Convolution<T = Tensor> {
    /// `[D, in, 3]`
    pub weight: T,
    /// `[D]`
    pub bias: T,
}

/// Every parameter tensor (or gradient, or moment).
pub struct Parameters<T = Tensor> {
    /// `[V, D]`
    pub embed_tokens: T,
    /// The decoder.
    pub layers: Vec<Layer<T>>,
    /// `[D]`
    pub norm: T,
    /// `[V, D]`, unless the output layer is the embedding table.
    pub lm_head: Option<T>,
    /// Eyes.
    pub vision: Option<Vision<T>>,
    /// Ears; empty without.
    pub audio: Vec<Convolution<T>>,
}

impl<T> StemParameters<T> {
    fn build(stem: &Stem, places: usize, hidden_size: usize, make: &mut impl FnMut(&[usize]) -> Result<T>) -> Result<Self> {
        let depth = stem.convolutions.len();
        let convolution = |layer: usize| {
            let [before, after] = [layer, layer + 1].map(|layer| stem.channels(layer));
            Ok(StemConvolution { norm: make(&[before])?, weight: make(&[after, before, 3, 3])?, bias: make(&[after])? })
        };
        let convolutions = (0..depth).map(convolution).collect::<Result<_>>()?;
        let width = stem.channels(depth);
        Ok(StemParameters {
            convolutions,
            places: if stem.places { Some(PlaceParameters { norm: make(&[width])?, projection: make(&[hidden_size, width])? }) } else { None },
            whole_norm: make(&[width])?,
            whole: make(&[hidden_size, places.saturating_mul(width)])?,
        })
    }
}

impl<T> Parameters<T> {
    /// Builds the listing for a config: `make(shape)` once per tensor.
    pub fn build(config: &Config, make: &mut impl FnMut(&[usize]) -> Result<T>) -> Result<Self> {
        let (d, f, v, hd) = (config.hidden_size, config.intermediate_size, config.vocab_size, config.head_dim);
        let (q, kv) = (config.num_attention_heads * hd, config.num_key_value_heads * hd);
        Ok(Parameters {
            embed_tokens: make(&[v, d])?,
            layers: (0..config.num_hidden_layers)
                .map(|_| {
                    Ok(Layer {
                        input_layernorm: make(&[d])?,
                        q_proj: make(&[q, d])?,
                        k_proj: make(&[kv, d])?,
                        v_proj: make(&[kv, d])?,
                        q_norm: make(&[hd])?,
                        k_norm: make(&[hd])?,
                        o_proj: make(&[d, q])?,
                        post_attention_layernorm: make(&[d])?,
                        gate_proj: make(&[f, d])?,
                        up_proj: make(&[f, d])?,
                        down_proj: make(&[d, f])?,
                    })
                })
                .collect::<Result<_>>()?,
            norm: make(&[d])?,
            lm_head: if config.tie_word_embeddings { None } else { Some(make(&[v, d])?) },
            vision: match &config.vision_config {
                None => None,
                Some(vision) => {
                    let width = vision.patch_width(d);
                    Some(Vision {
                        weight: make(&[width, vision.patch_size * vision.patch_size * 3])?,
                        bias: make(&[width])?,
                        position: make(&[vision.patch_grid(), 2, width])?,
                        stem: vision.stem.as_ref().map(|stem| StemParameters::build(stem, vision.grid().pow(2), d, make)).transpose()?,
                        histograms: match &vision.histograms[..] {
                            [] => None,
                            grids => Some(make(&[d, local_histogram::cells(grids).saturating_mul(local_histogram::BINS)])?),
                        },
                    })
                }
            },
            audio: match &config.audio_config {
                None => Vec::new(),
                Some(audio) => (0..audio.layers)
                    .map(|layer| Ok(Convolution { weight: make(&[d, if layer == 0 { audio.num_mel_bins } else { d }, 3])?, bias: make(&[d])? }))
                    .collect::<Result<_>>()?,
            },
        })
    }

    /// Every tensor with its name, in a fixed order.
    pub fn named(&self) -> Vec<(String, &T)> {
        let mut all = vec![("model.embed_tokens.weight".to_string(), &self.embed_tokens)];
        for (i, layer) in self.layers.iter().enumerate() {
            for (name, tensor) in [
                ("input_layernorm", &layer.input_layernorm),
                ("self_attn.q_proj", &layer.q_proj),
                ("self_attn.k_proj", &layer.k_proj),
                ("self_attn.v_proj", &layer.v_proj),
                ("self_attn.q_norm", &layer.q_norm),
                ("self_attn.k_norm", &layer.k_norm),
                ("self_attn.o_proj", &layer.o_proj),
                ("post_attention_layernorm", &layer.post_attention_layernorm),
                ("mlp.gate_proj", &layer.gate_proj),
                ("mlp.up_proj", &layer.up_proj),
                ("mlp.down_proj", &layer.down_proj),
            ] {
                all.push((format!("model.layers.{i}.{name}.weight"), tensor));
            }
        }
        all.push(("model.norm.weight".into(), &self.norm));
        all.extend(self.lm_head.as_ref().map(|t| ("lm_head.weight".into(), t)));
        if let Some(vision) = &self.vision {
            all.push(("vision_embed_tokens.weight".into(), &vision.weight));
            all.push(("vision_embed_tokens.bias".into(), &vision.bias));
            all.push(("vision_position.weight".into(), &vision.position));
            if let Some(stem) = &vision.stem {
                for (i, convolution) in stem.convolutions.iter().enumerate() {
                    let name = |part: &str| format!("vision_stem.conv{}.{part}", i + 1);
                    all.extend([(name("norm"), &convolution.norm), (name("weight"), &convolution.weight), (name("bias"), &convolution.bias)]);
                }
                if let Some(places) = &stem.places {
                    all.extend([("vision_stem.places.norm".into(), &places.norm), ("vision_stem.places.weight".into(), &places.projection)]);
                }
                all.push(("vision_stem.whole.norm".into(), &stem.whole_norm));
                all.push(("vision_stem.whole.weight".into(), &stem.whole));
            }
            all.extend(vision.histograms.as_ref().map(|t| ("vision_histograms.weight".into(), t)));
        }
        for (i, conv) in self.audio.iter().enumerate() {
            all.push((format!("audio_embed.conv{}.weight", i + 1), &conv.weight));
            all.push((format!("audio_embed.conv{}.bias", i + 1), &conv.bias));
        }
        all
    }

    /// Every tensor to write, in the order of [`Parameters::named`].
    pub fn each_mut(&mut self) -> Vec<&mut T> {
        let mut all = vec![&mut self.embed_tokens];
        for layer in &mut self.layers {
            all.extend([
                &mut layer.input_layernorm,
                &mut layer.q_proj,
                &mut layer.k_proj,
                &mut layer.v_proj,
                &mut layer.q_norm,
                &mut layer.k_norm,
                &mut layer.o_proj,
                &mut layer.post_attention_layernorm,
                &mut layer.gate_proj,
                &mut layer.up_proj,
                &mut layer.down_proj,
            ]);
        }
        all.push(&mut self.norm);
        all.extend(&mut self.lm_head);
        if let Some(vision) = &mut self.vision {
            all.extend([&mut vision.weight, &mut vision.bias, &mut vision.position]);
            if let Some(stem) = &mut vision.stem {
                for convolution in &mut stem.convolutions {
                    all.extend([&mut convolution.norm, &mut convolution.weight, &mut convolution.bias]);
                }
                if let Some(places) = &mut stem.places {
                    all.extend([&mut places.norm, &mut places.projection]);
                }
                all.extend([&mut stem.whole_norm, &mut stem.whole]);
            }
            all.extend(&mut vision.histograms);
        }
        for conv in &mut self.audio {
            all.extend([&mut conv.weight, &mut conv.bias]);
        }
        all
    }

    /// Every tensor, in the order of [`Parameters::named`].
    pub fn each(&self) -> Vec<&T> {
        self.named().into_iter().map(|(_, tensor)| tensor).collect()
    }
}

impl Parameters {
    /// Tensors of zeros.
    pub fn zeros(config: &Config, device: &Device, dtype: DType) -> Result<Self> {
        Self::build(config, &mut |shape| Tensor::zeros(device, shape, dtype))
    }

    /// Fresh parameters: norms 1, biases 0, matrices normal with deviation 0.02 (GPT-2), or `1/√in` where that is more;
    /// the projections back into the residual stream smaller by √(2 · layers). What the row of a whole picture is made of comes in
    /// smaller by the side of its grid, and its weights are drawn as for one place of it: an optimiser whose steps do not depend on how
    /// many inputs there are (Adam) would move so many too far (Yang and Hu 2021, arXiv 2011.14522).
    pub fn init(config: &Config, device: &Device, dtype: DType, seed: u64) -> Result<Self> {
        let mut parameters = Self::zeros(config, device, dtype)?;
        let grid = config.vision_config.as_ref().map_or(1.0, |vision| vision.grid() as f64);
        let specifications: Vec<_> = parameters.named().into_iter().map(|(name, t)| (name, t.shape())).collect();
        for (stream, ((name, shape), tensor)) in specifications.into_iter().zip(parameters.each_mut()).enumerate() {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(stream as u64); // a tensor's numbers do not depend on its neighbours' sizes
            let is_position = name.starts_with("vision_position");
            let values: Vec<f64> = if name.ends_with("bias") {
                vec![0.0; shape.len()]
            } else if name == "vision_stem.whole.norm" {
                vec![1.0 / grid; shape.len()]
            } else if shape.dims().len() == 1 {
                vec![1.0; shape.len()]
            } else {
                let fan_in = shape.dims()[1..].iter().product::<usize>() as f64 / if name == "vision_stem.whole.weight" { grid * grid } else { 1.0 };
                let mut deviation =
                    if is_position || name.contains("embed_tokens.weight") && !name.starts_with("vision") { 0.02 } else { (1.0 / fan_in.sqrt()).max(0.02) };
                if name.contains("o_proj") || name.contains("down_proj") {
                    deviation /= (2.0 * config.num_hidden_layers as f64).sqrt();
                }
                (0..shape.len()).map(|_| deviation * normal(&mut rng)).collect()
            };
            tensor.write_f64(&values)?;
        }
        Ok(parameters)
    }

    /// Takes over the values of others, rounded to the dtype of these.
    pub fn round_from(&mut self, from: &Parameters) -> Result<()> {
        self.each_mut().into_iter().zip(from.each()).try_for_each(|(to, from)| to.write_f64(&from.read_f64()?))
    }

    /// Sets every tensor to zero.
    pub fn fill_zero(&mut self) -> Result<()> {
        self.each_mut().into_iter().try_for_each(Tensor::fill_zero)
    }

    /// The number of parameters.
    pub fn count(&self) -> usize {
        self.each().iter().map(|t| t.len()).sum()
    }
}

/// How all tensors of a model are laid out in one: so that one launch clears, sums or updates all of them. Tensors of two sizes and more,
/// which decay, come first.
pub struct FlatLayout {
    /// Where each tensor starts, in the order of [`Parameters::build`].
    starts: Vec<usize>,
    /// Elements before the first tensor that does not decay.
    pub decayed: usize,
    /// Elements in all.
    pub elements: usize,
}

impl FlatLayout {
    /// Each tensor starts at a multiple of this many elements: 128 bytes in bf16, a cache line.
    const ALIGN: usize = 64;

    /// The layout of a model.
    pub fn new(config: &Config) -> Self {
        let mut sizes = Vec::new();
        let _ = Parameters::build(config, &mut |shape| {
            sizes.push((shape.len() >= 2, shape.iter().product::<usize>())); // below 2⁴⁸: the config was validated
            Ok(())
        });
        let (mut starts, mut elements, mut decayed) = (vec![0; sizes.len()], 0usize, 0);
        for decays in [true, false] {
            for (start, (_, len)) in starts.iter_mut().zip(&sizes).filter(|(_, (d, _))| *d == decays) {
                *start = elements;
                elements = elements.saturating_add(len.next_multiple_of(Self::ALIGN));
            }
            if decays {
                decayed = elements;
            }
        }
        FlatLayout { starts, decayed, elements }
    }

    /// Zeros in this layout: the tensors, and the one whose parts they are.
    ///
    /// # Errors
    /// Those of [`Tensor::zeros`]; [`crate::Error::Device`] where tensors have no parts.
    pub fn zeros(&self, config: &Config, device: &Device, dtype: DType) -> Result<(Parameters, Tensor)> {
        let whole = Tensor::zeros(device, [self.elements], dtype)?;
        let mut starts = self.starts.iter();
        let parts = Parameters::build(config, &mut |shape| whole.part(*starts.next().expect("as many as in `new`"), shape))?;
        Ok((parts, whole))
    }
}

/// Standard normal, by Box and Muller.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let mut uniform = || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let (u, v) = (1.0 - uniform(), uniform());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_one_layout_tensors_do_not_overlap_and_those_that_decay_come_first() {
        let config = Config::meadow(50);
        let layout = FlatLayout::new(&config);
        let mut shapes = Vec::new();
        let _ = Parameters::build(&config, &mut |shape| {
            shapes.push(shape.to_vec());
            Ok(())
        });
        let mut ranges: Vec<_> = layout.starts.iter().zip(&shapes).map(|(&start, shape)| start..start + shape.iter().product::<usize>()).collect();
        for (range, shape) in ranges.iter().zip(&shapes) {
            assert_eq!(range.end <= layout.decayed, shape.len() >= 2);
            assert!(range.start % 64 == 0 && range.end <= layout.elements);
        }
        ranges.sort_by_key(|r| r.start);
        assert!(ranges.windows(2).all(|w| w[0].end <= w[1].start));
    }

    #[test]
    fn both_listings_agree() {
        let mut parameters = Parameters::init(&Config::meadow(50), &Device::Cpu, DType::F32, 1).unwrap();
        let named: Vec<*const Tensor> = parameters.named().iter().map(|(_, t)| *t as *const _).collect();
        let each: Vec<*const Tensor> = parameters.each_mut().into_iter().map(|t| t as *const _).collect();
        assert_eq!(named, each);
        let names: std::collections::HashSet<_> = parameters.named().into_iter().map(|(n, _)| n).collect();
        assert_eq!(names.len(), named.len());
    }
}
