//! Where a window looks.

use split_core::Shape;
use split_graph::Window;

/// A window over maps of one size, with what it gives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slide {
    /// Of the input.
    pub(crate) input: [usize; 2],
    /// Of the output.
    pub(crate) output: [usize; 2],
    pub(crate) kernel: [usize; 2],
    stride: [usize; 2],
    before: [usize; 2],
}

impl Slide {
    pub(crate) fn new(window: &Window, input: Shape, output: Shape) -> Self {
        Self {
            input: [input.height(), input.width()],
            output: [output.height(), output.width()],
            kernel: window.kernel,
            stride: window.stride,
            before: [window.padding.top, window.padding.left],
        }
    }

    /// Positions of the kernel.
    pub(crate) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// The input's row or column (axis 0 or 1) that a tap sees at an output's; none in the padding.
    #[inline(always)]
    pub(crate) fn at(&self, axis: usize, output: usize, tap: usize) -> Option<usize> {
        let place = (output * self.stride[axis] + tap).checked_sub(self.before[axis])?;
        (place < self.input[axis]).then_some(place)
    }

    /// The outputs on an axis at which a tap sees the input, from first to last and one.
    pub(crate) fn range(&self, axis: usize, tap: usize) -> std::ops::Range<usize> {
        let first = self.before[axis].saturating_sub(tap).div_ceil(self.stride[axis]);
        let behind = (self.input[axis] + self.before[axis]).saturating_sub(tap);
        let end = behind.div_ceil(self.stride[axis]).min(self.output[axis]);
        first.min(end)..end
    }

    /// Whether every output sees the input at its own place alone.
    pub(crate) fn is_point(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.before == [0, 0] && self.input == self.output
    }
}
