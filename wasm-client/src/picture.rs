//! A picture on its way to the pixels that a network takes.

use split_core::{PlanarError, PlanarFrame, Preparation, PrepareError, Preparer};

/// A picture that is being taken, for one network.
#[derive(Debug)]
pub struct Picture {
    preparation: Preparation,
    /// Rows and columns of the network's input.
    to: [usize; 2],
    begun: Option<Preparer>,
    rgba: Option<Vec<u8>>,
}

impl Picture {
    pub(crate) fn new(preparation: Preparation, to: [usize; 2]) -> Self {
        Self {
            preparation,
            to,
            begun: None,
            rgba: None,
        }
    }

    /// Rows and columns of the network's input.
    pub(crate) fn size(&self) -> [usize; 2] {
        self.to
    }

    /// Takes a camera's frame, whole.
    pub fn planes(&mut self, frame: &PlanarFrame<'_>) -> Result<(), PlanarError> {
        self.rgba = Some(frame.prepare(self.preparation, self.to)?);
        Ok(())
    }

    /// Rows and columns that may be left out on each side of a picture of `[rows, columns]`, both even numbers.
    ///
    /// Cut alike on both sides, the picture's middle stays where it is.
    pub fn margins(&self, from: [usize; 2]) -> Result<[usize; 2], PrepareError> {
        let margins = self.preparation.margins(from, self.to)?;
        Ok(margins.map(|it| it & !1))
    }

    /// Begins a picture of `[rows, columns]` that is given as RGBA pixels.
    pub fn begin(&mut self, from: [usize; 2]) -> Result<(), PrepareError> {
        self.begun = Some(Preparer::new(self.preparation, from, self.to)?);
        Ok(())
    }

    /// Takes the next rows of the picture that was begun; the pixels are there with the last.
    pub fn push(&mut self, rgba: &[u8]) -> Result<(), PrepareError> {
        self.begun.as_mut().map_or(Ok(()), |it| it.push(rgba))
    }

    /// RGBA pixels of the network's size; an error unless all of the picture was given.
    pub(crate) fn finish(self) -> Result<Vec<u8>, PrepareError> {
        match (self.rgba, self.begun) {
            (Some(rgba), _) => Ok(rgba),
            (None, Some(begun)) => begun.finish(),
            (None, None) => Err(PrepareError::Length {
                expected: self.to[0] * self.to[1] * 4,
                got: 0,
            }),
        }
    }
}
