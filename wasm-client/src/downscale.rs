//! Camera frames for JavaScript.

use split_core::{ColorMatrix, PlanarFrame};
use wasm_bindgen::{Clamped, JsError, prelude::wasm_bindgen};

/// Scales camera frames to the network's size.
#[wasm_bindgen]
pub struct Downscaler {
    width: usize,
    height: usize,
}

#[wasm_bindgen]
impl Downscaler {
    /// A scaler to so many pixels.
    #[wasm_bindgen(constructor)]
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height }
    }

    /// RGBA pixels of a frame, whose planes are given as `VideoFrame.copyTo` writes them.
    ///
    /// `format` is `I420` or `NV12`; `matrix` that of the frame's `colorSpace`, of which `bt709` is one and everything else taken for BT.601.
    pub fn run(
        &self,
        bytes: &[u8],
        width: usize,
        height: usize,
        format: &str,
        matrix: &str,
        full_range: bool,
    ) -> Result<Clamped<Vec<u8>>, JsError> {
        let frame = PlanarFrame {
            bytes,
            width,
            height,
            interleaved: format == "NV12",
            matrix: match matrix {
                "bt709" => ColorMatrix::Bt709,
                _ => ColorMatrix::Bt601,
            },
            full_range,
        };
        Ok(Clamped(frame.downscale(self.width, self.height)?))
    }
}
