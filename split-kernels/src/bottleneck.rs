//! An inverted bottleneck in strips of rows: 1×1 convolution to many channels, depthwise convolution, 1×1 convolution to few.
//!
//! (Sandler et al., *MobileNetV2: Inverted Residuals and Linear Bottlenecks*, arXiv 1801.04381, section 5.1, on why the wide maps need never be
//! whole.)

use std::sync::Arc;

use fearless_simd::prelude::*;
use split_core::Shape;

use super::depthwise::{Depthwise, Row};
use super::direct::{Direct, Places};
use super::map::{Map, Source, Target};
use super::product::Place;

/// Bytes of a strip of both wide maps: they stay in the second-level cache.
const STRIP_BYTES: usize = 256 << 10;

/// The three layers; the first may be missing.
#[derive(Clone, Debug)]
pub struct Bottleneck {
    /// To many channels.
    pub expand: Option<Arc<Direct>>,
    /// In many channels.
    pub depthwise: Arc<Depthwise>,
    /// To few channels.
    pub project: Arc<Direct>,
    /// Shape of the depthwise convolution's input.
    pub wide: Shape,
    /// Its channels in memory.
    pub channels: usize,
}

/// Buffers of a run.
struct Strip<'a> {
    /// Rows of the expanded map with the padding around them, used in turn: row `r` lies in place `r` modulo [`rows`](Self::rows).
    wide: &'a mut [f32],
    rows: usize,
    /// Values of a row.
    row: usize,
    /// Rows of the depthwise convolution's output.
    narrow: &'a mut [f32],
    /// A row of padding.
    zeros: usize,
}

impl Bottleneck {
    /// Computes so many images. `scratch` grows to what it needs.
    pub fn run<S: Simd>(
        &self,
        simd: S,
        images: usize,
        input: Source,
        mut output: Target,
        addend: Option<Source>,
        scratch: &mut Vec<f32>,
    ) {
        let window = *self.depthwise.window();
        let [_, height, width] = output.map.shape.into();
        let ([kernel, _], [stride, _]) = (window.kernel, window.stride);
        let row = (window.padding.left + self.wide.width() + window.padding.right) * self.channels;
        let narrow = width * self.channels;
        let step = self.strip(row, narrow, height);
        let rows = (step - 1) * stride + kernel;
        let expanded = self.expand.as_ref().map_or(0, |_| (rows + 1) * row);
        let needed = expanded + step * narrow;
        if scratch.len() < needed {
            scratch.resize(needed, 0.0);
        }
        let (wide, narrow) = scratch[..needed].split_at_mut(expanded);
        let [left, right] = [window.padding.left, window.padding.right].map(|it| it * self.channels);
        for row in wide.chunks_exact_mut(row) {
            row[..left].fill(0.0);
            let inside = row.len() - right;
            row[inside..].fill(0.0);
        }
        let zeros = expanded.min(rows * row);
        wide[zeros..].fill(0.0);
        let mut strip = Strip {
            wide,
            rows,
            row,
            narrow,
            zeros: rows * row,
        };
        for image in 0..images {
            let mut next = 0;
            for first in (0..height).step_by(step) {
                let last = (first + step).min(height);
                if let Some(expand) = &self.expand {
                    let end = ((last - 1) * stride + kernel).saturating_sub(window.padding.top);
                    let end = end.min(self.wide.height());
                    self.expand(simd, expand, image, [next, end], input, &mut strip);
                    next = next.max(end);
                }
                for y in first..last {
                    self.filter(simd, [image, y, y - first], width, input, &mut strip);
                }
                self.project(simd, [image, first, last], &strip, &mut output, addend);
            }
        }
    }

    /// Rows of output in a strip. All weights pass once a strip, so that there is little to win by strips smaller than these.
    fn strip(&self, row: usize, narrow: usize, height: usize) -> usize {
        let expand = self.expand.as_ref().map_or(0, |it| it.bytes());
        let budget = STRIP_BYTES.max(expand + self.project.bytes()) / size_of::<f32>();
        let ([kernel, _], [stride, _]) = (self.depthwise.window().kernel, self.depthwise.window().stride);
        let wide = if self.expand.is_some() { row } else { 0 };
        let values = |rows: usize| ((rows - 1) * stride + kernel) * wide + rows * narrow;
        (1..=height).rev().find(|it| values(*it) <= budget).unwrap_or(1)
    }

    /// Expands rows of the input.
    #[inline(always)]
    fn expand<S: Simd>(
        &self,
        simd: S,
        expand: &Direct,
        image: usize,
        [first, end]: [usize; 2],
        input: Source,
        strip: &mut Strip,
    ) {
        let left = self.depthwise.window().padding.left * self.channels;
        let mut places = Places::new(expand.places());
        for y in first..end {
            let mut place = Place {
                input: input.map.at([image, y, 0]),
                output: y % strip.rows * strip.row + left,
                addend: 0,
            };
            for _ in 0..self.wide.width() {
                if places.push(place) {
                    expand.multiply(simd, places.take(), input, strip.wide, None);
                }
                place.input += input.map.channels;
                place.output += self.channels;
            }
        }
        expand.multiply(simd, places.take(), input, strip.wide, None);
    }

    /// The depthwise convolution for one row of output, which becomes that of the strip.
    #[inline(always)]
    fn filter<S: Simd>(&self, simd: S, [image, y, at]: [usize; 3], width: usize, input: Source, strip: &mut Strip) {
        let window = self.depthwise.window();
        let first = y * window.stride[0];
        let mut starts = [0; MOST_ROWS];
        let rows = &mut starts[..window.kernel[0]];
        let values = if self.expand.is_some() {
            for (index, start) in rows.iter_mut().enumerate() {
                *start = match (first + index).checked_sub(window.padding.top) {
                    Some(row) if row < self.wide.height() => row % strip.rows * strip.row,
                    _ => strip.zeros,
                };
            }
            &*strip.wide
        } else {
            let begin = input.map.window([image, first, 0], window.padding);
            for (index, start) in rows.iter_mut().enumerate() {
                *start = begin + index * input.map.row;
            }
            input.values
        };
        let row = Row {
            input: values,
            rows,
            channels: self.channels,
            width,
        };
        self.depthwise
            .row(simd, row, None, strip.narrow, at * width * self.channels);
    }

    /// The last convolution, from the rows of a strip to some of an image.
    #[inline(always)]
    fn project<S: Simd>(
        &self,
        simd: S,
        [image, first, last]: [usize; 3],
        strip: &Strip,
        output: &mut Target,
        addend: Option<Source>,
    ) {
        let shape = Shape::new(self.wide.channels(), 1, 1).unwrap_or(self.wide);
        let narrow = Map::new(1, shape, self.channels, Default::default());
        let input = Source {
            map: &narrow,
            values: strip.narrow,
        };
        let mut places = Places::new(self.project.places());
        let mut from = 0;
        for y in first..last {
            for x in 0..output.map.shape.width() {
                let place = Place {
                    input: from,
                    output: output.map.at([image, y, x]),
                    addend: addend.map_or(0, |it| it.map.at([image, y, x])),
                };
                if places.push(place) {
                    let addend = addend.map(|it| it.values);
                    self.project.multiply(simd, places.take(), input, output.values, addend);
                }
                from += self.channels;
            }
        }
        let addend = addend.map(|it| it.values);
        self.project.multiply(simd, places.take(), input, output.values, addend);
    }
}

/// The most rows of a depthwise filter in a bottleneck.
pub const MOST_ROWS: usize = 5;
