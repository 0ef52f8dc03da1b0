//! What a network takes, and how a picture becomes that.

use serde::{Deserialize, Serialize};

use crate::Shape;

/// How a picture of any size becomes the network's input, before it is normalised.
///
/// The picture is turned upright, blended over the background where it is transparent, fitted into the input's sides, and scaled: every pixel
/// of the input is the average of the area that it covers. The default is what a canvas does that is black before a picture is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preparation {
    /// How a picture of another shape than the input's is fitted into it.
    pub fit: Fit,
    /// The sRGB colour below transparent pixels, and beside a picture that does not fill the input.
    pub background: [u8; 3],
}

/// How a picture of another shape than the input's is fitted into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// The largest middle part of the input's shape is used, the rest is cut off.
    #[default]
    Cover,
    /// The whole picture is used, in the middle; the background fills the rest.
    Letterbox,
}

/// What the network takes: an RGB image, `(value / 255 − mean) / std` for each channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// `[3, H, W]`.
    pub shape: Shape,
    /// How a picture becomes an image of that shape.
    pub preparation: Preparation,
    /// Mean of each channel, in `[0, 1]`.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, positive.
    pub std: [f32; 3],
}

impl Input {
    /// Bytes of one frame as RGBA, H·W·4.
    pub fn rgba_bytes(&self) -> usize {
        self.shape.positions() * 4
    }

    /// Normalises a frame of RGBA bytes, row by row, to `[3, H, W]`; alpha is ignored. `values` is overwritten.
    ///
    /// Returns the expected length as an error if the frame has another size.
    pub fn normalize_rgba(&self, rgba: &[u8], values: &mut Vec<f32>) -> Result<(), FrameSizeError> {
        if rgba.len() != self.rgba_bytes() {
            return Err(FrameSizeError {
                shape: self.shape,
                expected: self.rgba_bytes(),
                got: rgba.len(),
            });
        }
        values.clear();
        values.reserve(self.shape.values());
        for channel in 0..3 {
            let scale = 1.0 / (255.0 * self.std[channel]);
            let shift = self.mean[channel] / self.std[channel];
            values.extend(
                rgba.chunks_exact(4)
                    .map(|pixel| f32::from(pixel[channel]) * scale - shift),
            );
        }
        Ok(())
    }
}

/// A frame whose size is not the network's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame of {got} bytes, expected {expected}: RGBA of {}×{} pixels", shape.width(), shape.height())]
pub struct FrameSizeError {
    /// Shape of the network's input.
    pub shape: Shape,
    /// Bytes of a frame of that shape.
    pub expected: usize,
    /// Bytes given.
    pub got: usize,
}
