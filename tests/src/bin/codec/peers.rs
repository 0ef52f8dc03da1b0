//! What the codec is compared with.

use std::io::Read;

use anyhow::{Context, Result, anyhow, ensure};
use flate2::read::ZlibDecoder;
use libdeflater::{CompressionLvl, Compressor as Deflater};
use png::{BitDepth, ColorType, DeflateCompression, Encoder, Filter};
use serde::Serialize;
use zstd::bulk::Compressor;

/// Bytes of a PNG before the first chunk of image data.
const PNG_HEADER_BYTES: usize = 33;
const FILTERS: [Filter; 7] = [
    Filter::NoFilter,
    Filter::Sub,
    Filter::Up,
    Filter::Avg,
    Filter::Paeth,
    Filter::Adaptive,
    Filter::MinEntropy,
];
/// The level that `zstd -19` means.
const ZSTD_LEVEL: i32 = 19;
/// Sizes of dictionaries tried; the last is what `zstd --train` makes.
const DICTIONARY_BYTES: [usize; 3] = [4096, 16_384, 112_640];

/// The paper's coder: the channels tiled into one grey image.
pub struct Png {
    channels: usize,
    /// Height and width of a channel.
    side: [usize; 2],
    depth: BitDepth,
}

impl Png {
    pub fn new(channels: usize, side: [usize; 2], bits: u8) -> Self {
        let depth = match bits {
            1 => BitDepth::One,
            2 => BitDepth::Two,
            3..=4 => BitDepth::Four,
            _ => BitDepth::Eight,
        };
        Self { channels, side, depth }
    }

    /// Size of the file whose filter makes it the smallest.
    pub fn bytes(&self, codes: &[u8]) -> Result<usize> {
        let (width, rows) = self.tiled(codes);
        let sizes = FILTERS.map(|filter| self.file(width, &rows, filter).and_then(|it| smallest_bytes(&it)));
        let sizes = sizes.into_iter().collect::<Result<Vec<_>>>()?;
        sizes.into_iter().min().context("there are filters")
    }

    fn file(&self, width: usize, rows: &[Vec<u8>], filter: Filter) -> Result<Vec<u8>> {
        let mut file = Vec::new();
        let mut encoder = Encoder::new(&mut file, width as u32, rows.len() as u32);
        encoder.set_color(ColorType::Grayscale);
        encoder.set_depth(self.depth);
        encoder.set_deflate_compression(DeflateCompression::Level(9));
        encoder.set_filter(filter);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&rows.concat())?;
        writer.finish()?;
        Ok(file)
    }

    /// Width in pixels and packed rows of an image of channels beside and below each other, as square as can be; empty places are zero.
    fn tiled(&self, codes: &[u8]) -> (usize, Vec<Vec<u8>>) {
        let [height, width] = self.side;
        let columns = (1..).find(|it| it * it >= self.channels).unwrap_or(1).max(1);
        let tiles = self.channels.div_ceil(columns).max(1);
        let mut rows = vec![vec![0; columns * width]; tiles * height];
        for (channel, plane) in codes.chunks_exact(height * width).enumerate() {
            let (down, right) = (channel / columns * height, channel % columns * width);
            for (row, line) in plane.chunks_exact(width).enumerate() {
                rows[down + row][right..right + width].copy_from_slice(line);
            }
        }
        let pack = |row: Vec<u8>| pack(&row, self.depth as u8);
        (columns * width, rows.into_iter().map(pack).collect())
    }
}

/// Size of a PNG whose image data may also be compressed by libdeflate at level 9: for so few bytes, its Huffman codes are a few percent better
/// than those of the coder in Rust, and as good as zlib's.
fn smallest_bytes(file: &[u8]) -> Result<usize> {
    let chunk = &file[PNG_HEADER_BYTES..];
    let length = u32::from_be_bytes(*chunk.first_chunk().context("no chunk")?) as usize;
    ensure!(&chunk[4..8] == b"IDAT", "expected image data");
    let mut filtered = Vec::new();
    ZlibDecoder::new(&chunk[8..8 + length]).read_to_end(&mut filtered)?;
    let level = CompressionLvl::new(9).map_err(|it| anyhow!("libdeflate: {it:?}"))?;
    let mut deflater = Deflater::new(level);
    let mut data = vec![0; deflater.zlib_compress_bound(filtered.len())];
    let compressed = deflater.zlib_compress(&filtered, &mut data)?;
    Ok(file.len() - length + length.min(compressed))
}

/// Codes of `bits` bits one behind another, the first in the highest bits.
fn pack(codes: &[u8], bits: u8) -> Vec<u8> {
    let (mut bytes, bits) = (
        vec![0; (codes.len() * usize::from(bits)).div_ceil(8)],
        usize::from(bits),
    );
    for (index, code) in codes.iter().enumerate() {
        for bit in 0..bits {
            let at = index * bits + bit;
            bytes[at / 8] |= (code >> (bits - 1 - bit) & 1) << (7 - at % 8);
        }
    }
    bytes
}

/// How codes are handed to zstd.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// A code's bits without gaps.
    Packed(u8),
    /// One code a byte.
    #[default]
    Bytes,
}

impl Layout {
    /// The layouts worth trying.
    pub fn of(bits: u8) -> Vec<Self> {
        match bits {
            8 => vec![Self::Bytes],
            _ => vec![Self::Packed(bits), Self::Bytes],
        }
    }

    fn lay(self, codes: &[u8]) -> Vec<u8> {
        match self {
            Self::Packed(bits) => pack(codes, bits),
            Self::Bytes => codes.to_vec(),
        }
    }
}

/// zstd with a dictionary trained on other pictures. Its frames have neither a checksum nor the number of their dictionary.
pub struct Zstd {
    layout: Layout,
    samples: Vec<Vec<u8>>,
    /// Size of the dictionary, and bytes that came out.
    candidates: Vec<(usize, Compressor<'static>, usize)>,
}

impl Zstd {
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            samples: Vec::new(),
            candidates: Vec::new(),
        }
    }

    pub fn learn(&mut self, codes: &[u8]) {
        self.samples.push(self.layout.lay(codes));
    }

    /// Trains a dictionary of each size. zstd refuses samples that are too few or too small for one.
    pub fn finish_learning(&mut self) -> Result<()> {
        let samples = std::mem::take(&mut self.samples);
        let trained = DICTIONARY_BYTES
            .iter()
            .filter_map(|&it| zstd::dict::from_samples(&samples, it).ok());
        for dictionary in [Vec::new()].into_iter().chain(trained) {
            let mut compressor = Compressor::with_dictionary(ZSTD_LEVEL, &dictionary)?;
            compressor.include_checksum(false)?;
            compressor.include_dictid(false)?;
            self.candidates.push((dictionary.len(), compressor, 0));
        }
        Ok(())
    }

    pub fn measure(&mut self, codes: &[u8]) -> Result<()> {
        let bytes = self.layout.lay(codes);
        for (_, compressor, total) in &mut self.candidates {
            *total += compressor.compress(&bytes)?.len();
        }
        Ok(())
    }

    /// Layout, size of the dictionary and bytes in all of the candidate with the fewest.
    pub fn best(&self) -> (Layout, usize, usize) {
        let best = self.candidates.iter().min_by_key(|it| it.2);
        best.map_or((self.layout, 0, usize::MAX), |it| (self.layout, it.0, it.2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_packed_from_the_highest_bit_on() {
        assert_eq!(pack(&[1, 2, 3, 4], 3), [0b0010_1001, 0b1100_0000]);
        assert_eq!(pack(&[5, 6, 7], 4), [0x56, 0x70]);
    }

    #[test]
    fn a_png_holds_the_tiled_codes() {
        let codes: Vec<u8> = (0..3 * 2 * 4).map(|it| it % 8).collect();
        let png = Png::new(3, [2, 4], 3);
        let (width, rows) = png.tiled(&codes);
        assert_eq!((width, rows.len()), (8, 4));
        let file = png.file(width, &rows, Filter::Paeth).unwrap();
        let image = image::load_from_memory(&file).unwrap().into_luma8();
        // Four bits of grey are decoded as multiples of 17.
        assert_eq!(image.get_pixel(5, 1).0[0], 17 * codes[8 + 4 + 1]);
        assert_eq!(image.get_pixel(2, 3).0[0], 17 * codes[16 + 4 + 2]);
        assert_eq!(image.get_pixel(6, 3).0[0], 0);
        assert!(png.bytes(&codes).unwrap() <= file.len());
    }

    #[test]
    fn a_trained_dictionary_helps_zstd() {
        let sample = |seed: u32| {
            (0..200_u32)
                .map(|it| (it * it / 7 + it / 50 * seed) as u8 % 4)
                .collect::<Vec<u8>>()
        };
        let mut zstd = Zstd::new(Layout::Bytes);
        (0..500).for_each(|it| zstd.learn(&sample(it)));
        zstd.finish_learning().unwrap();
        zstd.measure(&sample(501)).unwrap();
        assert!(zstd.best().1 > 0);
    }
}
