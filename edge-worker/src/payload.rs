//! Payload bytes → what the tail takes.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageReader, Limits};
use split_core::{
    codec::{DecodeError, FeatureCodec},
    manifest::{ImageFormat, Input},
};

/// Decodes the payloads of one operating point.
pub(crate) enum Decoder {
    /// Features, by the feature codec.
    Features(Box<FeatureCodec>),
    /// The frame as an image file: split point `input`.
    Image { format: ImageFormat, input: Input },
}

/// Why a payload was refused: the client is at fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PayloadError {
    /// Not what the feature codec writes.
    #[error(transparent)]
    Features(#[from] DecodeError),
    /// Not an image of this format.
    #[error("the payload is not a {format} image: {source}")]
    Image {
        format: ImageFormat,
        source: image::ImageError,
    },
    /// An image of another size.
    #[error("an image of {got_width}×{got_height} pixels, the network takes {width}×{height}: scale it on the device")]
    Size {
        width: usize,
        height: usize,
        got_width: u32,
        got_height: u32,
    },
    /// More bytes than the image could need.
    #[error("an image file of {got} bytes, the limit is {limit}")]
    TooLong { got: usize, limit: usize },
}

impl Decoder {
    /// The longest payload in bytes.
    pub(crate) fn max_payload_bytes(&self) -> usize {
        match self {
            Self::Features(codec) => codec.max_payload_bytes(),
            // Any encoder stays below the raw pixels, but for the headers and profiles of a small image.
            Self::Image { input, .. } => input.rgba_bytes() + 4096,
        }
    }

    /// Decodes one payload to `[C, H, W]`; `values` is overwritten. Works on arbitrary bytes.
    pub(crate) fn decode(&self, payload: &[u8], values: &mut Vec<f32>) -> Result<(), PayloadError> {
        match self {
            Self::Features(codec) => Ok(codec.decode(payload, &mut Vec::new(), values)?),
            Self::Image { format, input } => {
                let limit = self.max_payload_bytes();
                if payload.len() > limit {
                    return Err(PayloadError::TooLong {
                        got: payload.len(),
                        limit,
                    });
                }
                decode_image(*format, input, payload, values)
            }
        }
    }
}

fn decode_image(format: ImageFormat, input: &Input, payload: &[u8], values: &mut Vec<f32>) -> Result<(), PayloadError> {
    let refused = |source| PayloadError::Image { format, source };
    let (width, height) = (input.shape.width(), input.shape.height());
    let mut reader = ImageReader::with_format(Cursor::new(payload), file_format(format));
    let mut limits = Limits::default();
    // Room for the decoder's own tables and planes, whatever the size of the image.
    limits.max_alloc = Some(input.rgba_bytes() as u64 * 8 + (4 << 20));
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(refused)?;
    let (got_width, got_height) = decoder.dimensions();
    if (got_width as usize, got_height as usize) != (width, height) {
        return Err(PayloadError::Size {
            width,
            height,
            got_width,
            got_height,
        });
    }
    let rgba = DynamicImage::from_decoder(decoder).map_err(refused)?.into_rgba8();
    input
        .normalize_rgba(rgba.as_raw(), values)
        .map_err(|_| PayloadError::Size {
            width,
            height,
            got_width,
            got_height,
        })
}

fn file_format(format: ImageFormat) -> image::ImageFormat {
    match format {
        ImageFormat::Webp => image::ImageFormat::WebP,
        ImageFormat::Jpeg => image::ImageFormat::Jpeg,
    }
}

#[cfg(test)]
mod tests {
    use image::RgbImage;
    use split_core::{Shape, manifest::Preparation};

    use super::*;

    fn file(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
        let image = RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 100]));
        let mut bytes = Vec::new();
        image
            .write_to(&mut Cursor::new(&mut bytes), file_format(format))
            .unwrap();
        bytes
    }

    fn decoder(format: ImageFormat) -> Decoder {
        let input = Input {
            shape: Shape::new(3, 32, 32).unwrap(),
            preparation: Preparation::default(),
            mean: [0.5; 3],
            std: [0.25; 3],
        };
        Decoder::Image { format, input }
    }

    #[test]
    fn images_become_normalised_values() {
        for format in [ImageFormat::Webp, ImageFormat::Jpeg] {
            let mut values = Vec::new();
            decoder(format).decode(&file(32, 32, format), &mut values).unwrap();
            assert_eq!(values.len(), 3 * 32 * 32);
            let expected = (100.0 / 255.0 - 0.5) / 0.25;
            assert!((values[2 * 1024 + 500] - expected).abs() < 0.1, "{format}");
        }
    }

    #[test]
    fn other_sizes_are_refused_before_decoding() {
        for format in [ImageFormat::Webp, ImageFormat::Jpeg] {
            for (width, height) in [(31, 32), (64, 64), (1000, 1)] {
                let error = decoder(format).decode(&file(width, height, format), &mut Vec::new());
                assert!(
                    matches!(error, Err(PayloadError::Size { .. } | PayloadError::TooLong { .. })),
                    "{error:?}"
                );
            }
        }
    }

    #[test]
    fn damaged_images_are_errors() {
        for format in [ImageFormat::Webp, ImageFormat::Jpeg] {
            let bytes = file(32, 32, format);
            for at in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at] ^= 0xff;
                let _ = decoder(format).decode(&damaged, &mut Vec::new());
                let _ = decoder(format).decode(&bytes[..at], &mut Vec::new());
            }
            assert!(decoder(format).decode(&bytes[..20], &mut Vec::new()).is_err());
            assert!(decoder(format).decode(&[0; 20_000], &mut Vec::new()).is_err());
        }
    }
}
