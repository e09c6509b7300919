//! From pixels to rows of the token matrix: each patch becomes a row, or a stem of convolutions lies between.
//!
//! With a stem, embedded patches are a picture of `C` channels. Each convolution reads it normalised (RMSNorm over the channels of a
//! pixel) and, where its result has the same shape, is added to it, as the blocks of the decoder are added to the residual stream. What
//! is left is normalised once more and projected to the width of the token matrix: one row per place, unless the stem says that there are
//! none. A last row is of the picture as a whole: one linear map of all of it. What is where matters there, as it does to a template.
//! What is counted in a picture ([`super::histograms`]) becomes that row, or is added to it.

use super::config::{Config, VisionConfig};
use super::histograms::{self, HistogramActivations};
use super::linear;
use super::parameters::{StemParameters, Vision};
use super::stem::Stem;
use crate::error::Result;
use crate::ops::{conv2d, embedding, matmul, patch_embed, rms_norm};
use crate::tensor::{DType, Tensor};

/// What a stem keeps of a batch's pictures for its backward pass, and the gradients. `B` pictures.
pub struct StemActivations<T = Tensor> {
    /// `[B, G, G, C]`: the embedded patches.
    pub(crate) patches: T,
    /// One for each convolution.
    pub(crate) layers: Vec<StemLayerActivations<T>>,
    /// What becomes a row for each place, where there is one.
    pub(crate) places: Option<EyeRows<T>>,
    /// What becomes the row of the picture as a whole.
    pub(crate) whole: EyeRows<T>,
}

/// What rows are made in: for each place, or for all of them.
pub struct EyeRows<T = Tensor> {
    /// `[B, g, g, C]`: what the last convolution leaves, normalised; `[B·g·g]`.
    pub(crate) normed: T,
    pub(crate) rstd: T,
    /// `[B·g·g, D]`, or `[B, D]` of all places.
    pub(crate) rows: T,
    /// Gradients: of `rows`, of `normed`, of what the last convolution leaves.
    pub(crate) drows: T,
    pub(crate) dnormed: T,
    pub(crate) dout: T,
}

/// What one convolution of a stem keeps: `[B, H, W, in]` goes in, `[B, H', W', out]` comes out.
pub struct StemLayerActivations<T = Tensor> {
    /// What goes in, normalised; `[B·H·W]`.
    pub(crate) normed: T,
    pub(crate) rstd: T,
    /// What comes out, before and after the GELU.
    pub(crate) z: T,
    pub(crate) y: T,
    /// `y` and what went in, where both have the same shape.
    pub(crate) sum: Option<T>,
    /// Gradients: of `z`, of `normed`, of what goes in.
    pub(crate) dz: T,
    pub(crate) dnormed: T,
    pub(crate) dx: T,
}

impl<T> StemActivations<T> {
    /// Builds the listing for `images` pictures: `make(shape, dtype)` once per tensor. `None` for a model without a stem.
    pub fn build(config: &Config, images: usize, real: DType, make: &mut impl FnMut(&[usize], DType) -> Result<T>) -> Result<Option<Self>> {
        let Some((vision, stem)) = config.vision_config.as_ref().and_then(|v| Some((v, v.stem.as_ref()?))) else { return Ok(None) };
        let wide = crate::ops::statistic(real);
        let depth = stem.convolutions.len();
        let shape = |layer: usize| [images, stem.side(vision.patch_grid(), layer), stem.side(vision.patch_grid(), layer), stem.channels(layer)];
        let pixels = |layer: usize| shape(layer)[..3].iter().fold(1, |product: usize, &size| product.saturating_mul(size));
        let eye_rows = |count: usize, make: &mut dyn FnMut(&[usize], DType) -> Result<T>| {
            Ok(EyeRows {
                normed: make(&shape(depth), real)?,
                rstd: make(&[pixels(depth)], wide)?,
                rows: make(&[count, config.hidden_size], real)?,
                drows: make(&[count, config.hidden_size], real)?,
                dnormed: make(&shape(depth), real)?,
                dout: make(&shape(depth), real)?,
            })
        };
        Ok(Some(StemActivations {
            patches: make(&shape(0), real)?,
            layers: (0..depth)
                .map(|layer| {
                    let (before, after) = (shape(layer), shape(layer + 1));
                    Ok(StemLayerActivations {
                        normed: make(&before, real)?,
                        rstd: make(&[pixels(layer)], wide)?,
                        z: make(&after, real)?,
                        y: make(&after, real)?,
                        sum: stem.has_residual(layer).then(|| make(&after, real)).transpose()?,
                        dz: make(&after, real)?,
                        dnormed: make(&before, real)?,
                        dx: make(&before, real)?,
                    })
                })
                .collect::<Result<_>>()?,
            places: if stem.places { Some(eye_rows(pixels(depth), make)?) } else { None },
            whole: eye_rows(images, make)?,
        }))
    }

    /// Every tensor in the order of the computation, with what it is in a message.
    pub(crate) fn named(&self) -> Vec<(String, &T)> {
        let mut all = vec![("the embedded patches".to_string(), &self.patches)];
        for (i, layer) in self.layers.iter().enumerate() {
            let n = i + 1;
            all.extend([
                (format!("what convolution {n} of the eye reads"), &layer.normed),
                (format!("1/rms before convolution {n} of the eye"), &layer.rstd),
                (format!("convolution {n} of the eye"), &layer.z),
                (format!("convolution {n} of the eye after its GELU"), &layer.y),
            ]);
            all.extend(layer.sum.as_ref().map(|sum| (format!("convolution {n} of the eye and what it read"), sum)));
        }
        for (of, rows) in self.each_rows() {
            all.extend([
                (format!("what the eye saw, for {of}"), &rows.normed),
                (format!("1/rms of what the eye saw, for {of}"), &rows.rstd),
                (format!("{of} of the pictures"), &rows.rows),
            ]);
        }
        all
    }

    fn each_rows(&self) -> impl Iterator<Item = (&'static str, &EyeRows<T>)> {
        self.places.iter().map(|places| ("the rows of places", places)).chain([("the row of the whole", &self.whole)])
    }

    /// The gradients, as [`StemActivations::named`].
    pub(crate) fn named_gradients(&self) -> Vec<(String, &T)> {
        let mut all = Vec::new();
        for (i, layer) in self.layers.iter().enumerate() {
            let n = i + 1;
            all.extend([
                (format!("convolution {n} of the eye"), &layer.dz),
                (format!("what convolution {n} of the eye reads"), &layer.dnormed),
                (format!("what goes into convolution {n} of the eye"), &layer.dx),
            ]);
        }
        for (of, rows) in self.each_rows() {
            all.extend([
                (format!("{of} of the pictures"), &rows.drows),
                (format!("what the eye saw, for {of}"), &rows.dnormed),
                (format!("what the eye's last convolution leaves, for {of}"), &rows.dout),
            ]);
        }
        all
    }
}

/// What leaves convolution `layers.len() − 1` of the first ones; the patches where there is none.
fn stream<'a>(patches: &'a Tensor, layers: &'a [StemLayerActivations]) -> &'a Tensor {
    layers.last().map_or(patches, |last| last.sum.as_ref().unwrap_or(&last.y))
}

impl StemActivations {
    /// Uses as much of everything as so many pictures need.
    pub(crate) fn fit(&mut self, images: usize) -> Result<()> {
        let mut fit = |tensor: &mut Tensor| tensor.set_rows(images);
        for layer in &mut self.layers {
            [&mut layer.normed, &mut layer.z, &mut layer.y, &mut layer.dz, &mut layer.dnormed, &mut layer.dx].into_iter().try_for_each(&mut fit)?;
            layer.sum.iter_mut().try_for_each(&mut fit)?;
            layer.rstd.set_rows(images * layer.normed.dim(1) * layer.normed.dim(2))?;
        }
        fit(&mut self.patches)?;
        for (of, rows) in self.places.iter_mut().map(|places| (None, places)).chain([(Some(images), &mut self.whole)]) {
            [&mut rows.normed, &mut rows.dnormed, &mut rows.dout].into_iter().try_for_each(&mut fit)?;
            let places = images * rows.normed.dim(1) * rows.normed.dim(2);
            rows.rstd.set_rows(places)?;
            [&mut rows.rows, &mut rows.drows].into_iter().try_for_each(|tensor| tensor.set_rows(of.unwrap_or(places)))?;
        }
        Ok(())
    }
}

/// `f` on a picture `[B, H, W, C]` as rows `[B·H·W, C]`.
fn as_rows(picture: &mut Tensor, f: impl FnOnce(&mut Tensor) -> Result<()>) -> Result<()> {
    let shape = picture.shape();
    picture.reshape([picture.dim(0) * picture.dim(1) * picture.dim(2), picture.dim(3)])?;
    let done = f(picture);
    picture.reshape(shape)?;
    done
}

/// Normalises what leaves the last of these convolutions, after it was added to what went in, where it is.
fn normalise(patches: &Tensor, layers: &mut [StemLayerActivations], norm: &Tensor, eps: f32, normed: &mut Tensor, rstd: &mut Tensor) -> Result<()> {
    if let Some((StemLayerActivations { y, sum: Some(sum), .. }, before)) = layers.split_last_mut() {
        return rms_norm::forward(stream(patches, before), Some((y, sum)), norm, eps, normed, rstd);
    }
    rms_norm::forward(stream(patches, layers), None, norm, eps, normed, rstd)
}

/// Writes the rows of the pictures `pixels [B, H, W, 3]` into the token matrix `x`, where `row` says. `iota`: 0, 1, 2, …, with room for
/// every patch.
pub(crate) fn forward(
    vision: &VisionConfig,
    eps: f32,
    w: &Vision,
    pixels: &Tensor,
    row: &Tensor,
    whole_row: Option<&Tensor>,
    stem: Option<&mut StemActivations>,
    histograms: Option<&mut HistogramActivations>,
    iota: &mut Tensor,
    x: &mut Tensor,
) -> Result<()> {
    let seen = match (stem, &w.stem, &vision.stem) {
        (Some(a), Some(p), Some(stem)) => Some(through_stem(stem, eps, w, p, pixels, row, a, iota, x)?),
        _ => {
            patch_embed::forward(pixels, &w.weight, &w.bias, &w.position, row, x)?;
            None
        }
    };
    let whole = match (histograms, &w.histograms) {
        (Some(a), Some(w)) => Some(histograms::forward(&vision.histograms, w, pixels, seen, a)?),
        _ => seen,
    };
    let (Some(whole), Some(row)) = (whole, whole_row) else { return Ok(()) };
    iota.set_rows(row.rows())?;
    embedding::forward(whole, iota, Some(row), x)
}

/// Writes the rows of the places, where there are any; those of the pictures as wholes are returned.
fn through_stem<'a>(
    stem: &Stem,
    eps: f32,
    w: &Vision,
    p: &StemParameters,
    pixels: &Tensor,
    row: &Tensor,
    a: &'a mut StemActivations,
    iota: &mut Tensor,
    x: &mut Tensor,
) -> Result<&'a Tensor> {
    a.fit(pixels.rows())?;
    iota.set_rows(a.patches.len() / a.patches.dim(3))?;
    as_rows(&mut a.patches, |patches| patch_embed::forward(pixels, &w.weight, &w.bias, &w.position, iota, patches))?;
    for (i, w) in p.convolutions.iter().enumerate() {
        let (before, rest) = a.layers.split_at_mut(i);
        let here = &mut rest[0];
        normalise(&a.patches, before, &w.norm, eps, &mut here.normed, &mut here.rstd)?;
        conv2d::forward(&here.normed, &w.weight, &w.bias, stem.convolutions[i].stride, &mut here.z, &mut here.y)?;
    }
    if let (Some(p), Some(of)) = (&p.places, &mut a.places) {
        normalise(&a.patches, &mut a.layers, &p.norm, eps, &mut of.normed, &mut of.rstd)?;
        let rows = &mut of.rows;
        as_rows(&mut of.normed, |normed| linear::forward(normed, &p.projection, rows))?;
        iota.set_rows(row.rows())?;
        embedding::forward(rows, iota, Some(row), x)?;
    }
    // A sum is written once more, where the norm before this one wrote it: the same.
    let of = &mut a.whole;
    normalise(&a.patches, &mut a.layers, &p.whole_norm, eps, &mut of.normed, &mut of.rstd)?;
    linear::forward(&of.normed, &p.whole, &mut of.rows)?;
    Ok(&of.rows)
}

/// The gradients of the eye's parameters, which are added to `g`, and of the pixels where they are asked for, from `dx`, that of the token
/// matrix. [`forward`] has run.
pub(crate) fn backward(
    vision: &VisionConfig,
    w: &Vision,
    g: &mut Vision,
    pixels: &Tensor,
    row: &Tensor,
    whole_row: Option<&Tensor>,
    stem: Option<&mut StemActivations>,
    histograms: Option<&mut HistogramActivations>,
    iota: &mut Tensor,
    dx: &Tensor,
    dpixels: Option<&mut Tensor>,
    workspace: &mut Tensor,
) -> Result<()> {
    if let (Some(a), Some(dw), Some(row)) = (histograms, &mut g.histograms, whole_row) {
        histograms::backward(row, dx, dw, a, workspace)?;
    }
    let (Some(a), Some(p), Some(dp), Some(stem)) = (stem, &w.stem, &mut g.stem, &vision.stem) else {
        return patch_embed::backward(pixels, &w.weight, row, dx, &mut g.weight, &mut g.bias, &mut g.position, dpixels, workspace);
    };
    let StemActivations { patches, layers, places, whole } = a;
    let out = stream(patches, layers);
    embedding::forward(dx, whole_row.expect("the model has a stem"), None, &mut whole.drows)?;
    linear::backward(&whole.drows, &whole.normed, &p.whole, &mut whole.dnormed, false, &mut dp.whole, workspace)?;
    rms_norm::backward(&whole.dnormed, out, &p.whole_norm, &whole.rstd, None, &mut whole.dout, &mut dp.whole_norm, workspace)?;
    let mut dout = &mut whole.dout;
    if let (Some(p), Some(dp), Some(of)) = (&p.places, &mut dp.places, places) {
        let EyeRows { normed, rstd, drows, dnormed, dout: sum, .. } = of;
        embedding::forward(dx, row, None, drows)?;
        as_rows(normed, |normed| as_rows(dnormed, |dnormed| linear::backward(drows, normed, &p.projection, dnormed, false, &mut dp.projection, workspace)))?;
        rms_norm::backward(dnormed, out, &p.norm, rstd, Some(dout), sum, &mut dp.norm, workspace)?;
        dout = sum;
    }
    for (i, (w, dw)) in p.convolutions.iter().zip(&mut dp.convolutions).enumerate().rev() {
        let (before, rest) = layers.split_at_mut(i);
        let (here, after) = rest.split_first_mut().expect("one for each convolution");
        let StemLayerActivations { normed, rstd, z, sum, dz, dnormed, dx, .. } = here;
        let dy = after.first().map_or(&*dout, |after| &after.dx);
        conv2d::backward(normed, &w.weight, z, dy, stem.convolutions[i].stride, dz, Some(dnormed), &mut dw.weight, &mut dw.bias, workspace)?;
        rms_norm::backward(dnormed, stream(patches, before), &w.norm, rstd, sum.as_ref().map(|_| dy), dx, &mut dw.norm, workspace)?;
    }
    let first = layers.first_mut().map_or(dout, |first| &mut first.dx);
    iota.set_rows(first.len() / first.dim(3))?;
    as_rows(first, |dpatches| patch_embed::backward(pixels, &w.weight, iota, dpatches, &mut g.weight, &mut g.bias, &mut g.position, dpixels, workspace))
}

/// Elements of the workspace that [`backward`] needs for `images` pictures.
pub(super) fn workspace(config: &Config, vision: &VisionConfig, images: usize) -> usize {
    let width = vision.patch_width(config.hidden_size);
    let patches = patch_embed::workspace(images, vision.image_size, vision.image_size, vision.patch_size, width);
    let patches = patches.max(histograms::workspace(config, vision, images));
    let Some(stem) = &vision.stem else { return patches };
    let (grid, depth) = (vision.patch_grid(), stem.convolutions.len());
    let pixels = |layer: usize| images.saturating_mul(stem.side(grid, layer).pow(2));
    let layers = (0..depth).map(|layer| {
        let (side, channels) = (stem.side(grid, layer), stem.channels(layer));
        let convolution = conv2d::workspace(images, side, side, channels, stem.channels(layer + 1), stem.convolutions[layer].stride);
        convolution.max(rms_norm::workspace(pixels(layer), channels))
    });
    let last = stem.channels(depth);
    let projection = matmul::workspace(matmul::Layout::Tn, config.hidden_size, last, pixels(depth)).max(rms_norm::workspace(pixels(depth), last));
    let whole = matmul::workspace(matmul::Layout::Tn, config.hidden_size, last * vision.grid().pow(2), images);
    layers.chain([patches, projection, whole]).max().unwrap_or(0)
}
