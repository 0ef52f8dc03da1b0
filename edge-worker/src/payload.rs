//! Payload bytes → what the tail takes.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageReader, Limits};
use split_core::{
    codec::{DecodeError, FeatureCodec},
    manifest::{ImageFormat, Input},
};

use crate::webp::{self, WebpError};

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
    #[error("the payload is not a {format} image: {cause}")]
    Image {
        format: ImageFormat,
        cause: image::ImageError,
    },
    /// A WebP file that is not a single picture.
    #[error("the payload is not a WebP image: {0}")]
    Webp(WebpError),
    /// An image of another size.
    #[error("an image of {got_width}×{got_height} pixels, the network takes {width}×{height}: scale it on the device")]
    Size {
        width: usize,
        height: usize,
        got_width: u32,
        got_height: u32,
    },
    /// More bytes than its operating point could need.
    #[error("a payload of {got} bytes, this operating point takes at most {limit}")]
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

    /// Whether a payload of this length can be one: asked when it arrives, before it waits for its turn.
    pub(crate) fn check_length(&self, got: usize) -> Result<(), PayloadError> {
        match self.max_payload_bytes() {
            limit if got > limit => Err(PayloadError::TooLong { got, limit }),
            _ => Ok(()),
        }
    }

    /// Decodes one payload to `[C, H, W]`; `values` is overwritten. Works on arbitrary bytes.
    pub(crate) fn decode(&self, payload: &[u8], values: &mut Vec<f32>) -> Result<(), PayloadError> {
        match self {
            Self::Features(codec) => Ok(codec.decode(payload, &mut Vec::new(), values)?),
            Self::Image { format, input } => decode_image(*format, input, payload, values),
        }
    }
}

/// Decodes an image file of exactly the network's size to `[C, H, W]`. Nothing is decoded of a file that holds a picture of another size.
fn decode_image(format: ImageFormat, input: &Input, payload: &[u8], values: &mut Vec<f32>) -> Result<(), PayloadError> {
    let refused = |cause| PayloadError::Image { format, cause };
    let (width, height) = (input.shape.width(), input.shape.height());
    if format == ImageFormat::Webp {
        let expected = webp::Size {
            width: u32::try_from(width).unwrap_or(u32::MAX),
            height: u32::try_from(height).unwrap_or(u32::MAX),
        };
        webp::check(payload, expected).map_err(|error| match error {
            WebpError::Size(got) => PayloadError::Size {
                width,
                height,
                got_width: got.width,
                got_height: got.height,
            },
            other => PayloadError::Webp(other),
        })?;
    }
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
                assert!(matches!(error, Err(PayloadError::Size { .. })), "{error:?}");
            }
        }
    }

    fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let mut bytes = [&kind[..], &(data.len() as u32).to_le_bytes(), data].concat();
        bytes.resize(bytes.len().next_multiple_of(2), 0);
        bytes
    }

    fn riff(chunks: &[Vec<u8>]) -> Vec<u8> {
        let chunks = [b"WEBP".to_vec(), chunks.concat()].concat();
        chunk(b"RIFF", &chunks)
    }

    /// An outer header: flags, and a canvas of 32×32.
    fn canvas(flags: u8) -> Vec<u8> {
        chunk(b"VP8X", &[flags, 0, 0, 0, 31, 0, 0, 31, 0, 0])
    }

    /// A VP8 key frame that says 16383×16383, as much of it as fits into a payload.
    fn huge_lossy() -> Vec<u8> {
        let header = [0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0xff, 0x3f, 0xff, 0x3f];
        chunk(b"VP8 ", &[&header[..], &[0x55; 7000]].concat())
    }

    fn huge_lossless() -> Vec<u8> {
        let size: u32 = 16382 | 16382 << 14;
        chunk(b"VP8L", &[&[0x2f][..], &size.to_le_bytes(), &[0x55; 7000]].concat())
    }

    #[test]
    fn a_picture_behind_a_header_that_lies_is_refused_before_decoding() {
        let check = |file: &[u8]| decoder(ImageFormat::Webp).decode(file, &mut Vec::new()).unwrap_err();
        let honest = file(32, 32, ImageFormat::Webp)[12..].to_vec();
        for inner in [huge_lossy(), huge_lossless()] {
            for file in [
                riff(&[canvas(0), inner.clone()]),
                riff(std::slice::from_ref(&inner)),
                // Behind the picture that one decoder takes may stand one that another takes.
                riff(&[canvas(0), honest.clone(), inner.clone()]),
                riff(&[canvas(0x10), chunk(b"ALPH", &[0; 3]), inner.clone()]),
            ] {
                let error = check(&file);
                let size = matches!(
                    error,
                    PayloadError::Size {
                        got_width: 16383,
                        got_height: 16383,
                        ..
                    }
                );
                assert!(size, "{error:?}");
            }
        }
    }

    #[test]
    fn an_animation_is_refused_before_decoding() {
        let frame = [&[0; 6][..], &[31, 0, 0, 31, 0, 0], &[0; 4], &huge_lossy()].concat();
        let [animation, frame] = [chunk(b"ANIM", &[0; 6]), chunk(b"ANMF", &frame)];
        for flags in [0, 2] {
            let file = riff(&[canvas(flags), animation.clone(), frame.clone()]);
            let error = decoder(ImageFormat::Webp).decode(&file, &mut Vec::new());
            assert!(
                matches!(error, Err(PayloadError::Webp(WebpError::Animated))),
                "{error:?}"
            );
        }
    }

    #[test]
    fn a_payload_is_as_long_as_its_point_allows_at_most() {
        let decoder = decoder(ImageFormat::Jpeg);
        let limit = decoder.max_payload_bytes();
        assert!(decoder.check_length(limit).is_ok());
        assert!(matches!(
            decoder.check_length(limit + 1),
            Err(PayloadError::TooLong { .. })
        ));
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
