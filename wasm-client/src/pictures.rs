//! Pictures for JavaScript.

use std::rc::Rc;

use split_core::{ColorMatrix, PlanarFrame};
use wasm_bindgen::{JsError, prelude::wasm_bindgen};

use crate::{client::Shared, picture::Picture};

/// Brings the picture that is being taken to the pixels that the network takes, by the rule of [`split_core::prepare`]; the pixels stay here.
#[wasm_bindgen]
pub struct Pictures {
    pub(crate) shared: Rc<Shared>,
}

#[wasm_bindgen]
impl Pictures {
    /// Takes a camera's frame, whose planes are given as `VideoFrame.copyTo` writes them.
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
    ) -> Result<(), JsError> {
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
        self.with(|it| it.planes(&frame))
    }

    /// Rows or columns (whichever are more than the network sees) that may be left out on each side of a picture; an even number.
    ///
    /// `[rows, columns]`; cut alike on both sides, the picture's middle stays where it is.
    pub fn margins(&self, width: usize, height: usize) -> Result<Vec<usize>, JsError> {
        self.with(|it| it.margins([height, width])).map(Vec::from)
    }

    /// Begins a picture that is given as RGBA pixels.
    pub fn begin(&self, width: usize, height: usize) -> Result<(), JsError> {
        self.with(|it| it.begin([height, width]))
    }

    /// Takes the next rows of the picture that was begun.
    pub fn push(&self, rgba: &[u8]) -> Result<(), JsError> {
        self.with(|it| it.push(rgba))
    }

    fn with<Done, E: std::error::Error>(
        &self,
        work: impl FnOnce(&mut Picture) -> Result<Done, E>,
    ) -> Result<Done, JsError> {
        let mut engine = self.shared.engine.borrow_mut();
        let picture = engine
            .picture()
            .ok_or_else(|| JsError::new("no picture is being taken"))?;
        work(picture).map_err(JsError::from)
    }
}
