//! Frames as image files, coded as browsers code them and decoded as the edge worker decodes them.

use anyhow::{Context, anyhow};
use image::RgbImage;
use split_core::manifest::ImageFormat;

/// A picture as an image file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coded {
    /// A file with the pixels that a browser's file gives.
    pub file: Vec<u8>,
    /// Length of the browser's file in bytes.
    pub length: usize,
}

/// Codes a picture the way Chromium's canvas does: libwebp with its default preset and method 3, or baseline JPEG with
/// 4:2:0 chroma and optimised Huffman tables (Skia's `SkWebpEncoder` and `SkJpegEncoder`).
pub fn encode(rgb: &[u8], [height, width]: [usize; 2], format: ImageFormat, quality: u8) -> anyhow::Result<Coded> {
    match format {
        ImageFormat::Webp => {
            let file = webp(rgb, [height, width], quality)?;
            let length = file.len();
            Ok(Coded { file, length })
        }
        ImageFormat::Jpeg => Ok(Coded {
            file: jpeg(rgb, [height, width], quality, false)?,
            length: jpeg(rgb, [height, width], quality, true)?.len() - SCANS,
        }),
    }
}

/// Headers of three scans against that of one: with optimised tables the encoder writes a scan for each component, Skia's one for all.
///
/// The decoder gets 4:2:0 chroma in scans of its own wrong (zune-jpeg 0.5), so pixels come from a file with standard tables: the
/// coefficients are the same.
const SCANS: usize = 16;

/// Decodes an image file to RGB, row by row; `[height, width]` is what it must have.
pub fn decode(bytes: &[u8], [height, width]: [usize; 2], format: ImageFormat) -> anyhow::Result<Vec<u8>> {
    let format = match format {
        ImageFormat::Webp => image::ImageFormat::WebP,
        ImageFormat::Jpeg => image::ImageFormat::Jpeg,
    };
    let picture: RgbImage = image::load_from_memory_with_format(bytes, format)?.into_rgb8();
    let size = [picture.height() as usize, picture.width() as usize];
    anyhow::ensure!(
        size == [height, width],
        "the picture is {size:?}, expected {height}×{width}"
    );
    Ok(picture.into_raw())
}

fn webp(rgb: &[u8], [height, width]: [usize; 2], quality: u8) -> anyhow::Result<Vec<u8>> {
    let mut config = webp::WebPConfig::new().map_err(|()| anyhow!("libwebp refuses its own default settings"))?;
    config.lossless = 0;
    config.quality = f32::from(quality);
    config.method = 3;
    let encoder = webp::Encoder::from_rgb(rgb, u32::try_from(width)?, u32::try_from(height)?);
    let file = encoder
        .encode_advanced(&config)
        .map_err(|it| anyhow!("libwebp: {it:?}"))?;
    Ok(file.to_vec())
}

fn jpeg(rgb: &[u8], [height, width]: [usize; 2], quality: u8, optimized: bool) -> anyhow::Result<Vec<u8>> {
    let mut file = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut file, quality.max(1));
    encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::F_2_2);
    encoder.set_optimized_huffman_tables(optimized);
    let size = (u16::try_from(width)?, u16::try_from(height)?);
    encoder
        .encode(rgb, size.0, size.1, jpeg_encoder::ColorType::Rgb)
        .context("JPEG encoder")?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_come_back_nearly_the_same() {
        let rgb: Vec<u8> = (0..16 * 24)
            .flat_map(|it| [(it / 2) as u8, 100, (255 - it / 2) as u8])
            .collect();
        for format in [ImageFormat::Webp, ImageFormat::Jpeg] {
            let small = encode(&rgb, [16, 24], format, 20).unwrap();
            let large = encode(&rgb, [16, 24], format, 95).unwrap();
            assert!(
                small.length < large.length && large.length <= large.file.len(),
                "{format}"
            );
            let decoded = decode(&large.file, [16, 24], format).unwrap();
            let mean = rgb
                .iter()
                .zip(&decoded)
                .map(|(a, b)| f64::from(a.abs_diff(*b)))
                .sum::<f64>()
                / rgb.len() as f64;
            assert!(mean < 6.0, "{format}: mean error {mean}");
            assert!(decode(&large.file, [24, 16], format).is_err());
        }
    }
}
