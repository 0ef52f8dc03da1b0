//! Image files to the pixels that a network takes: as browsers show them, by the rule of [`split_core::prepare`].

use std::cell::Cell;
use std::io::{Cursor, ErrorKind, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, RgbImage};
use moxcms::{ColorProfile, DataColorSpace, Layout, Transform8BitExecutor, TransformOptions};
use split_core::{Preparation, PrepareError, Preparer};

/// Names of files that are read, by how they end. What a file is, its first bytes say.
pub const READ: [&str; 11] = [
    "jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "gif", "bmp", "tif", "tiff",
];
/// Names of other pictures, which are counted and left out.
pub const UNREAD: [&str; 17] = [
    "avif", "heic", "heif", "hif", "jxl", "jp2", "svg", "ico", "psd", "tga", "dng", "raw", "cr2", "cr3", "nef", "arw",
    "orf",
];

/// Pictures with more pixels are decoded one at a time, JPEGs among them at a reduced size.
const LARGE: u64 = 60_000_000;
/// Bytes that one picture may take while it is decoded.
const MOST_BYTES: u64 = 2 << 30;
/// Pixels of a reduced picture that each pixel of the network's input still covers, both ways: enough that reducing changes no mean.
const REDUCED_PIXELS: usize = 16;
/// Rows that are made RGBA at a time.
const STRIP_ROWS: usize = 64;

/// A file that is no picture, or one that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// It begins like no format that is read.
    #[error("not a picture: neither JPEG, PNG, WebP, GIF, BMP nor TIFF")]
    Unknown,
    /// It is cut off.
    #[error("the file ends early: it is cut off")]
    Truncated,
    /// Damaged, or of a kind that its decoder does not know.
    #[error("{0}")]
    Jpeg(jpeg_decoder::Error),
    /// Damaged, too large, or of a kind that its decoder does not know.
    #[error("{0}")]
    Image(image::ImageError),
    /// It has no pixels, or too many in a row or column.
    #[error(transparent)]
    Size(#[from] PrepareError),
}

impl From<jpeg_decoder::Error> for DecodeError {
    fn from(error: jpeg_decoder::Error) -> Self {
        match error {
            jpeg_decoder::Error::Io(io) if io.kind() == ErrorKind::UnexpectedEof => Self::Truncated,
            other => Self::Jpeg(other),
        }
    }
}

impl From<image::ImageError> for DecodeError {
    fn from(error: image::ImageError) -> Self {
        let ends_early = |it: &(dyn std::error::Error + 'static)| {
            let io = it.downcast_ref::<std::io::Error>();
            io.is_some_and(|it| it.kind() == ErrorKind::UnexpectedEof)
        };
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(it) = cause {
            if ends_early(it) {
                return Self::Truncated;
            }
            cause = it.source();
        }
        Self::Image(error)
    }
}

/// A picture as the network takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// RGB bytes, row by row.
    pub rgb: Vec<u8>,
    /// Rows and columns of the picture in the file, upright.
    pub from: [usize; 2],
}

/// Decodes a file and brings its picture to `to` = `[rows, columns]`.
///
/// Of animations the first frame is taken. Large JPEGs are reduced while they are decoded.
pub fn decode(file: &[u8], preparation: Preparation, to: [usize; 2]) -> Result<Decoded, DecodeError> {
    if file.starts_with(&[0xFF, 0xD8]) {
        jpeg(file, preparation, to, LARGE)
    } else {
        other(file, preparation, to)
    }
}

fn jpeg(file: &[u8], preparation: Preparation, to: [usize; 2], large: u64) -> Result<Decoded, DecodeError> {
    let is_past_end = Cell::new(false);
    let scans = Scans::of(file);
    let end = scans.end.unwrap_or(file.len());
    let decoder = |padding: &'static [u8]| {
        let behind = Behind {
            bytes: if end < file.len() { padding } else { &[] },
            reached: &is_past_end,
        };
        jpeg_decoder::Decoder::new(file[..end].chain(behind).chain(&file[end..]))
    };
    let size = |it: jpeg_decoder::ImageInfo| [usize::from(it.height), usize::from(it.width)];
    let mut first = decoder(&NO_CODE);
    first.read_info()?;
    let full = first.info().map_or([0, 0], size);
    let _alone = alone(full);
    let by = reduction(full, to, large);
    let bytes = samples_of(&mut first, full, by).map_err(|error| match error {
        jpeg_decoder::Error::Format(_) if is_past_end.get() => DecodeError::Truncated,
        other => other.into(),
    })?;
    if scans.last_refines && !samples_of(&mut decoder(&[]), full, by).is_ok_and(|it| it == bytes) {
        return Err(DecodeError::Truncated);
    }
    let decoder = first;
    let info = decoder.info();
    let samples = match info.map(|it| it.pixel_format) {
        Some(jpeg_decoder::PixelFormat::L8) => Samples::Grey,
        Some(jpeg_decoder::PixelFormat::L16) => Samples::Grey16,
        Some(jpeg_decoder::PixelFormat::CMYK32) => Samples::Cmyk,
        _ => Samples::Rgb,
    };
    let orientation = decoder.exif_data().and_then(Orientation::from_exif_chunk);
    let picture = Picture {
        bytes,
        size: info.map_or([0, 0], size),
        samples,
        profile: decoder.icc_profile(),
    };
    picture.prepare(preparation, to, orientation, full)
}

/// All samples, reduced so many times.
fn samples_of(
    decoder: &mut jpeg_decoder::Decoder<impl Read>,
    full: [usize; 2],
    by: usize,
) -> Result<Vec<u8>, jpeg_decoder::Error> {
    decoder.set_max_decoding_buffer_size(MOST_BYTES as usize);
    if by > 1 {
        let [height, width] = full.map(|it| it.div_ceil(by) as u16);
        decoder.scale(width, height)?;
    }
    decoder.decode()
}

/// Ones, which begin no code. They stand before the mark of the end, behind which the decoder would take zeros for the rest of the picture: a
/// whole picture has no use for them. A scan that refines coefficients has bits without codes too, and takes any for them: if it is cut off, ones
/// make another picture than zeros.
const NO_CODE: [u8; 64] = {
    let mut stuffed = [0; 64];
    let mut at = 0;
    while at < stuffed.len() {
        stuffed[at] = 0xFF;
        at += 2;
    }
    stuffed
};

/// Bytes that note when they are read.
struct Behind<'a> {
    bytes: &'a [u8],
    reached: &'a Cell<bool>,
}

impl Read for Behind<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.reached.set(true);
        self.bytes.read(buffer)
    }
}

/// What the markers of a JPEG say of its scans.
#[derive(Default)]
struct Scans {
    /// Where the mark of the end is. `None` without one, which the decoder reports, and in files without Huffman codes.
    end: Option<usize>,
    /// Whether the last one adds bits to coefficients that earlier ones began.
    last_refines: bool,
}

impl Scans {
    fn of(file: &[u8]) -> Self {
        let mut scans = Self::default();
        scans.end = scans.walk(file);
        scans
    }

    fn walk(&mut self, file: &[u8]) -> Option<usize> {
        const SOI: u8 = 0xD8;
        const EOI: u8 = 0xD9;
        const SOS: u8 = 0xDA;
        // Lossless, hierarchical and arithmetic ones; tables and extensions have numbers among them.
        let is_other_frame = |marker: u8| matches!(marker, 0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF);
        let mut at = 0;
        loop {
            let first = file.get(at)?;
            let marker = *file.get(at + 1)?;
            match (first, marker) {
                (0xFF, 0xFF) => at += 1,
                (0xFF, EOI) => return Some(at),
                (0xFF, 0 | 1 | 0xD0..=0xD7 | SOI) => at += 2,
                (0xFF, marker) if is_other_frame(marker) => return None,
                (0xFF, marker) => {
                    let length = [*file.get(at + 2)?, *file.get(at + 3)?];
                    at += 2 + usize::from(u16::from_be_bytes(length));
                    if marker == SOS {
                        // The last byte of a scan's header: how many bits of the coefficients are known, and how many stay unknown.
                        self.last_refines = file.get(at.checked_sub(1)?)? >> 4 != 0;
                    }
                }
                _ => at += 1,
            }
        }
    }
}

fn other(file: &[u8], preparation: Preparation, to: [usize; 2]) -> Result<Decoded, DecodeError> {
    let mut reader = ImageReader::new(Cursor::new(file));
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(MOST_BYTES);
    reader.limits(limits);
    let reader = reader.with_guessed_format().map_err(image::ImageError::IoError)?;
    if reader.format().is_none() {
        return Err(DecodeError::Unknown);
    }
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    let size = [height as usize, width as usize];
    let _alone = alone(size);
    let orientation = decoder.orientation().ok();
    let profile = decoder.icc_profile().ok().flatten();
    let picture = Picture {
        bytes: DynamicImage::from_decoder(decoder)?.into_rgba8().into_raw(),
        size,
        samples: Samples::Rgba,
        profile,
    };
    picture.prepare(preparation, to, orientation, size)
}

/// How many times smaller a picture is decoded: just enough that it is no longer large, and not so much that it shows.
fn reduction(full: [usize; 2], to: [usize; 2], large: u64) -> usize {
    let pixels = |by: usize| (full[0] / by) as u64 * (full[1] / by) as u64;
    let [least, most] = [full[0].min(full[1]), to[0].max(to[1])];
    let allowed = [1, 2, 4, 8]
        .into_iter()
        .filter(|by| *by == 1 || least / by >= REDUCED_PIXELS * most);
    allowed
        .take_while(|by| *by == 1 || pixels(by / 2) > large)
        .last()
        .unwrap_or(1)
}

/// Held while a large picture is in memory.
fn alone([height, width]: [usize; 2]) -> Option<MutexGuard<'static, ()>> {
    static ALONE: Mutex<()> = Mutex::new(());
    let is_large = height as u64 * width as u64 > LARGE;
    is_large.then(|| ALONE.lock().unwrap_or_else(PoisonError::into_inner))
}

#[derive(Clone, Copy, PartialEq)]
enum Samples {
    Grey,
    /// Two bytes, native order.
    Grey16,
    Rgb,
    Rgba,
    /// 255 is full ink.
    Cmyk,
}

impl Samples {
    fn bytes(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Grey16 => 2,
            Self::Rgb => 3,
            Self::Rgba | Self::Cmyk => 4,
        }
    }
}

/// A picture as it is stored.
struct Picture {
    bytes: Vec<u8>,
    /// Rows and columns.
    size: [usize; 2],
    samples: Samples,
    /// ICC profile.
    profile: Option<Vec<u8>>,
}

impl Picture {
    /// Scaling a picture and turning it gives what turning it first gives, and the scaled one is smaller.
    fn prepare(
        self,
        preparation: Preparation,
        to: [usize; 2],
        orientation: Option<Orientation>,
        full: [usize; 2],
    ) -> Result<Decoded, DecodeError> {
        use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
        let orientation = orientation.unwrap_or(Orientation::NoTransforms);
        let is_lying = matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH);
        let turned = |[height, width]: [usize; 2]| if is_lying { [width, height] } else { [height, width] };
        let [height, width] = turned(to);
        let mut preparer = Preparer::new(preparation, self.size, [height, width])?;
        let conversion = self.conversion();
        for strip in self.bytes.chunks(STRIP_ROWS * self.size[1] * self.samples.bytes()) {
            preparer.push(&self.rgba(strip, conversion.as_deref()))?;
        }
        let rgba = preparer.finish()?;
        let rgb = rgba.chunks_exact(4).flat_map(|it| [it[0], it[1], it[2]]).collect();
        let mut image =
            DynamicImage::ImageRgb8(RgbImage::from_raw(width as u32, height as u32, rgb).unwrap_or_default());
        image.apply_orientation(orientation);
        Ok(Decoded {
            rgb: image.into_rgb8().into_raw(),
            from: turned(full),
        })
    }

    /// What the profile asks for; none where there is none that fits, as browsers do.
    fn conversion(&self) -> Option<Arc<Transform8BitExecutor>> {
        let profile = ColorProfile::new_from_slice(self.profile.as_ref()?).ok()?;
        let is_fit = match self.samples {
            Samples::Rgb | Samples::Rgba => profile.color_space == DataColorSpace::Rgb,
            Samples::Cmyk => profile.color_space == DataColorSpace::Cmyk,
            Samples::Grey | Samples::Grey16 => false,
        };
        let srgb = ColorProfile::new_srgb();
        // CMYK has four samples, as RGBA has.
        let transform =
            || profile.create_transform_8bit(Layout::Rgba, &srgb, Layout::Rgba, TransformOptions::default());
        is_fit.then(transform)?.ok()
    }

    fn rgba(&self, strip: &[u8], conversion: Option<&Transform8BitExecutor>) -> Vec<u8> {
        let samples = strip.chunks_exact(self.samples.bytes());
        let mut rgba: Vec<u8> = match (self.samples, conversion) {
            (Samples::Grey, _) => samples.flat_map(|it| [it[0], it[0], it[0], 255]).collect(),
            (Samples::Grey16, _) => samples
                .map(|it| (u16::from_ne_bytes([it[0], it[1]]) >> 8) as u8)
                .flat_map(|it| [it, it, it, 255])
                .collect(),
            (Samples::Rgb, _) => samples.flat_map(|it| [it[0], it[1], it[2], 255]).collect(),
            (Samples::Rgba, _) | (Samples::Cmyk, Some(_)) => strip.to_vec(),
            (Samples::Cmyk, None) => samples.flat_map(cmyk_to_rgba).collect(),
        };
        if let Some(conversion) = conversion {
            let mut converted = vec![255; rgba.len()];
            if conversion.transform(&rgba, &mut converted).is_ok() {
                rgba = converted;
            }
            if self.samples == Samples::Cmyk {
                rgba.chunks_exact_mut(4).for_each(|it| it[3] = 255);
            }
        }
        rgba
    }
}

fn cmyk_to_rgba(ink: &[u8]) -> [u8; 4] {
    let black = 255 - u32::from(ink[3]);
    let value = |it: u8| (((255 - u32::from(it)) * black + 127) / 255) as u8;
    [value(ink[0]), value(ink[1]), value(ink[2]), 255]
}

#[cfg(test)]
mod tests;
