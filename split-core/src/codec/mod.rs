//! The feature codec: features ⇄ payload bytes.
//!
//! ```text
//!  features [C,H,W]          codes [C,H,W]                                payload
//!  f32              ──────►  0 ..= 2^bits−1  ──────►  range coder  ──────►  bytes
//!              step and centre             one static table for            prefix-free:
//!              of each channel             each expected code              says itself where it ends
//! ```
//!
//! *Quantiser.* Code `q` of channel `c` stands for `q · step[c] + centre[c]` ([`quantize`](FeatureCodec::quantize)). After a ReLU, centres are
//! zero; where features may be negative, code 0 stands for the lowest that is kept. A channel whose step is zero never changes: it has no codes
//! and costs nothing.
//!
//! *Contexts.* Features after ReLU and pooling are sparse in blobs, and channels repeat each other: a value is likely zero where its
//! neighbours are. Codes are visited channel by channel, row by row, and every code is *expected* before it is coded: linearly, from its
//! neighbours to the left and above, and from five places around it in up to six channels before its own, those that correlate most with
//! it. The expected code, in steps that grow with it, is the context, and chooses one of a few dozen tables that all channels share.
//! Weights are small integers, so that browser and edge worker expect the same; [`calibrate`] fits them by least squares. (Contexts from
//! an expected value: Wu and Memon, *Context-based, adaptive, lossless image coding*, 1997.)
//!
//! What contexts are worth, in bytes a payload, was measured on VGG-16 with 8 channels of 16×16 at pool1, 12 of 8×8 at pool2, 15 of 4×4 at
//! pool3 and 28 of 2×2 at pool4, 2 and 3 bits, tables of 3000 training images, payloads of others:
//!
//! | contexts | pool1 | pool2 | pool3 | pool4 |
//! | --- | --- | --- | --- | --- |
//! | left, above, the channel before, each clipped at 2: 27 a channel | 333.5 | 136.0 | 61.8 | 27.7 |
//! | the code expected from its own channel | 328 | 135 | 60.9 | 27.8 |
//! | and from three others | 312 | 128.6 | 59.8 | 25.6 |
//! | and from six ([`REFERENCES`]) | 308 | 126.4 | 59.2 | 24.1 |
//! | and from all before it | 299 | 124.2 | 58.6 | 21.3 |
//!
//! All would need weights that outgrow the head where there are a hundred channels. Tables of each channel's own save 2 % more at pool1
//! and less behind it.
//!
//! *Entropy coder.* The range coder of the `constriction` crate (Martin, *Range encoding*, 1979): first in, first out, so that
//! the contexts are known in the order in which they are needed; an ANS coder would have to encode backwards and would pay its
//! initial state in a payload of a few dozen bytes. Payloads are short, so the end of the stream matters: the encoder writes the fewest whole bytes whose every
//! continuation still decodes to the same codes. The set of payloads is therefore prefix-free; a payload cut short, and one
//! with bytes behind its end, are both told apart from a whole one without spending a length field.
//!
//! *Escape.* A first symbol of probability 2⁻⁶ says that uniform tables follow. The encoder takes that way when the calibrated
//! tables would cost more, so a payload never exceeds the packed codes by more than one byte.
//!
//! *Alternatives*; the first two stand beside it in `cargo xtask bench codec`. PNG, the coder of Shi et al. (section III-C), spends 57 bytes on
//! its frame and 6 on zlib's, more than a whole payload behind the deeper pools; its filters predict grey levels, not sparsity, and
//! its dictionary starts empty. zstd with a trained dictionary starts full but spends about 9 bytes on its frame, and it, too, looks for
//! repeats, which noisy codes hardly have. An rANS coder (Duda, *Asymmetric numeral systems*, 2013) would decode faster, without a division,
//! at the price named above. Tables that adapt while they code (Marpe, Schwarz and Wiegand, *Context-based adaptive binary
//! arithmetic coding*, 2003) have no time to learn in a few hundred codes; the calibration set knows better.

mod calibrate;
mod entropy;
mod predict;
mod tables;

use serde::{Deserialize, Serialize};

pub use calibrate::{Histograms, calibrate};
pub use predict::{CONTEXTS, PREDICTOR_BYTES, REFERENCES};
pub use tables::{TableError, Tables};

use crate::Shape;

/// The widest code, in bits.
pub const MAX_BITS: u8 = 8;

/// Everything that the codec of one operating point needs, as its file stores it: `codecs/<sha256>.json` beside the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureCodecSpec {
    /// Width of a code, 1 to [`MAX_BITS`].
    pub bits: u8,
    /// Width of one quantiser step for each channel; zero for a channel that never changes.
    pub steps: Vec<f32>,
    /// For each channel the feature that code 0 stands for; empty if that is 0 in all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub centres: Vec<f32>,
    /// Static probability tables.
    pub tables: Tables,
}

impl FeatureCodecSpec {
    /// Reads a codec's file. What it says is checked by [`FeatureCodec::new`].
    pub fn from_json(json: &[u8]) -> Result<Self, SpecError> {
        serde_json::from_slice(json).map_err(|it| SpecError::Syntax(it.to_string()))
    }

    /// The bytes of a codec's file, the same for the same content.
    pub fn to_json(&self) -> Vec<u8> {
        // Numbers, strings and lists of them always are JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// A checked codec for features of one shape at one operating point.
#[derive(Clone, Debug)]
pub struct FeatureCodec {
    shape: Shape,
    bits: u8,
    steps: Vec<f32>,
    /// As many as there are steps.
    centres: Vec<f32>,
    coder: entropy::Coder,
}

impl FeatureCodec {
    /// Checks the spec against the shape of the features.
    pub fn new(shape: Shape, spec: &FeatureCodecSpec) -> Result<Self, SpecError> {
        if !(1..=MAX_BITS).contains(&spec.bits) {
            return Err(SpecError::Bits { got: spec.bits });
        }
        if spec.steps.len() != shape.channels() {
            return Err(SpecError::Channels {
                expected: shape.channels(),
                got: spec.steps.len(),
            });
        }
        if let Some(channel) = spec
            .steps
            .iter()
            .position(|it| !it.is_finite() || it.is_sign_negative())
        {
            return Err(SpecError::Step {
                channel,
                got: spec.steps[channel],
            });
        }
        let mut centres = spec.centres.clone();
        if centres.is_empty() {
            centres.resize(shape.channels(), 0.0);
        }
        if centres.len() != shape.channels() {
            return Err(SpecError::Centres {
                expected: shape.channels(),
                got: centres.len(),
            });
        }
        if let Some(channel) = centres.iter().position(|it| !it.is_finite()) {
            return Err(SpecError::Centre {
                channel,
                got: centres[channel],
            });
        }
        let live = spec.steps.iter().map(|&it| it > 0.0).collect();
        let coder = entropy::Coder::new(shape, spec.bits, live, &spec.tables)?;
        Ok(Self {
            shape,
            bits: spec.bits,
            steps: spec.steps.clone(),
            centres,
            coder,
        })
    }

    /// Shape `[C, H, W]` of the features.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The longest payload in bytes: the packed codes and one byte.
    pub fn max_payload_bytes(&self) -> usize {
        self.coder.max_payload_bytes()
    }

    /// Turns features into codes, one byte a value in the order of the features.
    ///
    /// Values below the channel's centre become 0 and values beyond the last code become the last code. `codes` is overwritten; it allocates
    /// only while it is smaller than the features.
    pub fn quantize(&self, features: &[f32], codes: &mut Vec<u8>) -> Result<(), EncodeError> {
        if features.len() != self.shape.values() {
            return Err(EncodeError::Length {
                expected: self.shape.values(),
                got: features.len(),
            });
        }
        // Plain loops over slices, which become vector instructions.
        codes.resize(features.len(), 0);
        let top = (1_u32 << self.bits) as f32 - 1.0;
        let positions = self.shape.positions();
        let channels = features.chunks_exact(positions).zip(codes.chunks_exact_mut(positions));
        let quantizers = self.steps.iter().zip(&self.centres);
        for ((features, codes), (&step, &centre)) in channels.zip(quantizers) {
            // A dead channel gets the code 0 everywhere: `x · 0` rounds to 0.
            let scale = if step > 0.0 { step.recip() } else { 0.0 };
            for (code, feature) in codes.iter_mut().zip(features) {
                *code = truncate(((feature - centre) * scale).clamp(0.0, top) + 0.5);
            }
        }
        let finite = features.iter().fold(true, |all, it| all & it.is_finite());
        match finite {
            true => Ok(()),
            false => {
                let index = features.iter().position(|it| !it.is_finite()).unwrap_or_default();
                Err(EncodeError::NotFinite {
                    index,
                    got: features[index],
                })
            }
        }
    }

    /// Turns codes back into features; the inverse of [`quantize`](Self::quantize) up to half a step.
    ///
    /// `codes` are what [`decode_codes`](Self::decode_codes) gave. `features` is overwritten.
    pub fn dequantize(&self, codes: &[u8], features: &mut Vec<f32>) {
        features.clear();
        features.reserve(codes.len());
        let quantizers = self.steps.iter().zip(&self.centres);
        for (channel, (&step, &centre)) in codes.chunks_exact(self.shape.positions()).zip(quantizers) {
            features.extend(channel.iter().map(|&it| f32::from(it) * step + centre));
        }
    }

    /// Entropy-codes what [`quantize`](Self::quantize) gave. `payload` is overwritten.
    pub fn encode_codes(&self, codes: &[u8], payload: &mut Vec<u8>) -> Result<(), EncodeError> {
        if codes.len() != self.shape.values() {
            return Err(EncodeError::Length {
                expected: self.shape.values(),
                got: codes.len(),
            });
        }
        self.coder.encode(codes, payload)
    }

    /// Decodes a payload into codes, bit for bit those that were encoded. `codes` is overwritten.
    ///
    /// Works on arbitrary bytes: it never panics, always ends, and allocates nothing but `codes`.
    pub fn decode_codes(&self, payload: &[u8], codes: &mut Vec<u8>) -> Result<(), DecodeError> {
        self.coder.decode(payload, codes)
    }

    /// Features to payload in one call. `codes` is scratch space to be kept from call to call.
    pub fn encode(&self, features: &[f32], codes: &mut Vec<u8>, payload: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.quantize(features, codes)?;
        self.encode_codes(codes, payload)
    }

    /// Payload to features in one call. `codes` is scratch space to be kept from call to call.
    pub fn decode(&self, payload: &[u8], codes: &mut Vec<u8>, features: &mut Vec<f32>) -> Result<(), DecodeError> {
        self.decode_codes(payload, codes)?;
        self.dequantize(codes, features);
        Ok(())
    }
}

/// Cuts off the fraction of a value from 0 to 255. Not a cast, whose care for all other values keeps the loop from becoming vector instructions.
#[inline]
fn truncate(value: f32) -> u8 {
    /// Numbers from here on have no fraction, and their last bits count from 0.
    const WHOLE: f32 = (1 << 23) as f32;
    let rounded = value + WHOLE;
    let too_much = u8::from(rounded - WHOLE > value);
    (rounded.to_bits() as u8).wrapping_sub(too_much)
}

/// Why a codec could not be built: its file is at fault.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// Codes of this width are not supported.
    #[error("codes of {got} bits, expected 1 to {MAX_BITS}")]
    Bits {
        /// Width in the spec.
        got: u8,
    },
    /// One step is needed for each channel.
    #[error("{got} quantiser steps for {expected} channels")]
    Channels {
        /// Channels of the features.
        expected: usize,
        /// Steps in the spec.
        got: usize,
    },
    /// A step must be zero or positive, and finite.
    #[error("quantiser step {got} of channel {channel} is not zero or positive")]
    Step {
        /// The channel.
        channel: usize,
        /// Its step in the spec.
        got: f32,
    },
    /// One centre is needed for each channel, or none.
    #[error("{got} quantiser centres for {expected} channels")]
    Centres {
        /// Channels of the features.
        expected: usize,
        /// Centres in the spec.
        got: usize,
    },
    /// A centre must be finite.
    #[error("quantiser centre {got} of channel {channel} is not finite")]
    Centre {
        /// The channel.
        channel: usize,
        /// Its centre in the spec.
        got: f32,
    },
    /// The tables do not fit.
    #[error(transparent)]
    Tables(#[from] TableError),
    /// Not JSON, or not the JSON of a codec.
    #[error("the file cannot be read: {0}")]
    Syntax(String),
    /// The file is another codec's than the manifest says.
    #[error("codes of {got} bits, the manifest says {expected}")]
    OtherBits {
        /// Width in the manifest.
        expected: u8,
        /// Width in the file.
        got: u8,
    },
}

/// Why features could not be encoded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The features have another shape than the operating point's.
    #[error("{got} values, expected {expected}")]
    Length {
        /// Values of the codec's shape.
        expected: usize,
        /// Values given.
        got: usize,
    },
    /// NaN or infinity: the head is at fault.
    #[error("value {index} is {got}, features must be finite")]
    NotFinite {
        /// Where, in `[C, H, W]` order.
        index: usize,
        /// What.
        got: f32,
    },
    /// A code above the codec's last one.
    #[error("code {got} at {index}, the last one is {last}")]
    Code {
        /// Where, in `[C, H, W]` order.
        index: usize,
        /// The code.
        got: u8,
        /// The largest code of the codec.
        last: u8,
    },
}

/// Why a payload could not be decoded: the sender is at fault, or the bytes were damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Longer than any payload of this operating point; refused before looking inside.
    #[error("payload of {got} bytes, the operating point allows {limit}")]
    TooLong {
        /// Length of the payload.
        got: usize,
        /// Longest payload of the operating point.
        limit: usize,
    },
    /// The payload stops early. Only a longer one can succeed.
    #[error("payload ends after {got} of {expected} bytes")]
    Truncated {
        /// How long a payload that starts like this is, as far as can be told.
        expected: usize,
        /// Length of the payload.
        got: usize,
    },
    /// Bytes behind the end of the payload.
    #[error("payload ends after {expected} bytes, got {got}")]
    Trailing {
        /// Where the payload ends.
        expected: usize,
        /// Length of the bytes given.
        got: usize,
    },
    /// Bytes that no encoder writes.
    #[error("payload is not one that an encoder writes")]
    Corrupt,
}

#[cfg(test)]
mod tests;
