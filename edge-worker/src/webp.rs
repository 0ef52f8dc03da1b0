//! What a WebP file really holds, before anything of it is decoded.
//!
//! The file's outer header and the picture inside have a size each, and a decoder that goes by the inner one may work for as long as a picture of
//! 16383×16383 pixels takes, whatever the outer one says. Here every picture in the file is looked at, wherever a decoder may find one.

/// Size of the pictures in a WebP file, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// Why a file is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WebpError {
    /// It stops early, or is no WebP file.
    #[error("the file is damaged")]
    Damaged,
    /// Several pictures.
    #[error("the file is an animation; send a single picture")]
    Animated,
    /// A picture or a canvas of another size than the network's.
    #[error("a picture of {}×{} pixels", .0.width, .0.height)]
    Size(Size),
}

/// Checks that every size in the file is `expected`, and that it is no animation.
pub(crate) fn check(file: &[u8], expected: Size) -> Result<(), WebpError> {
    let mut rest = match file.split_at_checked(12) {
        Some((head, rest)) if head.starts_with(b"RIFF") && head.ends_with(b"WEBP") => rest,
        _ => return Err(WebpError::Damaged),
    };
    while let Some((kind, after)) = rest.split_first_chunk::<4>() {
        let (length, data) = after.split_first_chunk::<4>().ok_or(WebpError::Damaged)?;
        let length = u32::from_le_bytes(*length) as usize;
        let size = match kind {
            b"VP8 " => Some(lossy(data)?),
            b"VP8L" => Some(lossless(data)?),
            b"VP8X" => Some(canvas(data)?),
            b"ANIM" | b"ANMF" => return Err(WebpError::Animated),
            _ => None,
        };
        if let Some(other) = size.filter(|it| *it != expected) {
            return Err(WebpError::Size(other));
        }
        // Chunks are padded to an even length; the padding of the last one may be missing.
        rest = data.get(length.saturating_add(length % 2)..).unwrap_or_default();
    }
    Ok(())
}

/// Size of a VP8 key frame: RFC 6386, section 9.1.
fn lossy(data: &[u8]) -> Result<Size, WebpError> {
    let header = data.first_chunk::<10>().ok_or(WebpError::Damaged)?;
    let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    Ok(Size {
        width: side(header[6], header[7]),
        height: side(header[8], header[9]),
    })
}

/// Size of a lossless picture: RFC 9649, section 3.4.
fn lossless(data: &[u8]) -> Result<Size, WebpError> {
    let header = data.first_chunk::<5>().ok_or(WebpError::Damaged)?;
    let bits = u32::from_le_bytes([header[1], header[2], header[3], header[4]]);
    Ok(Size {
        width: (bits & 0x3fff) + 1,
        height: (bits >> 14 & 0x3fff) + 1,
    })
}

/// Size of an extended file's canvas: RFC 9649, section 2.7.
fn canvas(data: &[u8]) -> Result<Size, WebpError> {
    const ANIMATION: u8 = 1 << 1;
    let header = data.first_chunk::<10>().ok_or(WebpError::Damaged)?;
    if header[0] & ANIMATION != 0 {
        return Err(WebpError::Animated);
    }
    let side = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], 0]) + 1;
    Ok(Size {
        width: side(4),
        height: side(7),
    })
}
