//! Products of matrices in slices, by the `gemm` crate, which knows AVX2, AVX-512 and NEON.

/// A matrix in a slice. Values lie `strides[0]` apart from row to row and `strides[1]` from column to column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    strides: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// Row after row, each `stride` values behind the one before.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        Self {
            values,
            rows,
            columns,
            strides: [stride, 1],
        }
    }

    /// Rows become columns.
    pub(crate) fn transposed(self) -> Self {
        let [row, column] = self.strides;
        Self {
            rows: self.columns,
            columns: self.rows,
            strides: [column, row],
            ..self
        }
    }

    /// Values from the first to the last.
    fn span(&self) -> usize {
        span(self.rows, self.columns, self.strides)
    }
}

fn span(rows: usize, columns: usize, strides: [usize; 2]) -> usize {
    match rows * columns {
        0 => 0,
        _ => (rows - 1) * strides[0] + (columns - 1) * strides[1] + 1,
    }
}

/// Writes `a · b` to `to`, whose rows lie `stride` values apart, or adds it to what is there.
///
/// # Panics
///
/// When the sizes do not fit.
pub(crate) fn multiply(a: Matrix<'_>, b: Matrix<'_>, to: &mut [f32], stride: usize, add: bool) {
    assert_eq!(a.columns, b.rows, "matrices that do not fit");
    assert!(stride >= b.columns && a.span() <= a.values.len() && b.span() <= b.values.len());
    assert!(
        span(a.rows, b.columns, [stride, 1]) <= to.len(),
        "a product that does not fit"
    );
    if a.rows == 0 || b.columns == 0 {
        return;
    }
    let step = |it: usize| isize::try_from(it).unwrap_or(isize::MAX);
    // SAFETY: every value that the sizes and strides reach lies in its slice, as was just checked, and `to` is borrowed for us alone.
    #[allow(unsafe_code, reason = "the crate takes pointers")]
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            to.as_mut_ptr(),
            1,
            step(stride),
            add,
            a.values.as_ptr(),
            step(a.strides[1]),
            step(a.strides[0]),
            b.values.as_ptr(),
            step(b.strides[1]),
            step(b.strides[0]),
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_written_or_added_with_any_stride() {
        let (a, b) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 0.0, 2.0, 1.0, 0.0, 3.0]);
        let mut to = vec![9.0; 6];
        multiply(Matrix::new(&a, 2, 3, 3), Matrix::new(&b, 3, 2, 2), &mut to, 3, false);
        assert_eq!(to, [5.0, 11.0, 9.0, 14.0, 23.0, 9.0]);
        multiply(
            Matrix::new(&a, 3, 2, 2).transposed(),
            Matrix::new(&b, 3, 2, 2),
            &mut to,
            3,
            true,
        );
        // [[1, 3, 5], [2, 4, 6]] · [[1, 0], [2, 1], [0, 3]] = [[7, 18], [10, 22]]
        assert_eq!(to, [12.0, 29.0, 9.0, 24.0, 45.0, 9.0]);
    }
}
