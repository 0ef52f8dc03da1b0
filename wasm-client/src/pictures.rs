//! Pictures for JavaScript.

use split_core::{ColorMatrix, PlanarFrame, Preparation, Preparer};
use wasm_bindgen::{Clamped, JsError, prelude::wasm_bindgen};

/// Brings pictures of any size to the pixels that the network takes, by the rule of [`split_core::prepare`].
#[wasm_bindgen]
pub struct Pictures {
    preparation: Preparation,
    /// Rows and columns of the network's input.
    to: [usize; 2],
    begun: Option<Preparer>,
}

impl Pictures {
    /// Prepares as a series says.
    pub fn new(preparation: Preparation, to: [usize; 2]) -> Self {
        Self {
            preparation,
            to,
            begun: None,
        }
    }
}

#[wasm_bindgen]
impl Pictures {
    /// RGBA pixels of a camera's frame, whose planes are given as `VideoFrame.copyTo` writes them.
    ///
    /// `format` is `I420` or `NV12`; `matrix` that of the frame's `colorSpace`, of which `bt709` is one and everything else taken for BT.601.
    pub fn planes(
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
        Ok(Clamped(frame.prepare(self.preparation, self.to)?))
    }

    /// Rows or columns (whichever are more than the network sees) that may be left out on each side of a picture; an even number.
    ///
    /// `[rows, columns]`; cut alike on both sides, the picture's middle stays where it is.
    pub fn margins(&self, width: usize, height: usize) -> Result<Vec<usize>, JsError> {
        let margins = self.preparation.margins([height, width], self.to)?;
        Ok(margins.map(|it| it & !1).to_vec())
    }

    /// Begins a picture that is given as RGBA pixels.
    pub fn begin(&mut self, width: usize, height: usize) -> Result<(), JsError> {
        self.begun = Some(Preparer::new(self.preparation, [height, width], self.to)?);
        Ok(())
    }

    /// Takes the next rows of the picture that was begun.
    pub fn push(&mut self, rgba: &[u8]) -> Result<(), JsError> {
        Ok(self.begun.as_mut().ok_or_else(not_begun)?.push(rgba)?)
    }

    /// RGBA pixels of the picture that was begun, of which all rows were given.
    pub fn finish(&mut self) -> Result<Clamped<Vec<u8>>, JsError> {
        let begun = self.begun.take().ok_or_else(not_begun)?;
        Ok(Clamped(begun.finish()?))
    }
}

fn not_begun() -> JsError {
    JsError::new("no picture was begun")
}
